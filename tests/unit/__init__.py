"""Promises of the modules that need no network: what they accept, refuse and leave untouched."""
