"""Clients reach us: the HTTP door, legacy sessions, and the streams that carry answers."""
