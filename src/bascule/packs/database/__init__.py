"""Databases: look up with SQL that can only read, and insert one record at a time. SQLite and PostgreSQL."""
