"""The promise of a tool, prompt or resource: its words, where each comes from, and what follows from them."""
