"""Files below one folder: list, search, read, write, move, delete and bring back."""
