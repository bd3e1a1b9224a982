"""Conditions in CEL: read and checked here before any call, evaluated by an engine that knows no types. PURE.

tokens and tree are what parse.py makes of a text; types, ranges and regex are what check.py knows of it.
"""
