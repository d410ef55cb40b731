"""The operator API, a module for each part."""
