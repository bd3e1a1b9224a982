"""Bascule: the governed bridge between AI agents and tools."""

__version__ = "0.1.0"

__all__ = ["__version__"]
