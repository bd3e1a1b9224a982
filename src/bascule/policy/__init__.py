"""Rules to decisions: scopes, guardrails, limits. Computes over values; nothing here waits or looks outside."""
