"""An EST server that gives every answer, and a table of what must come of each.

``server`` listens; ``replies`` are raw answers; ``certificates`` and ``messages`` are what is
in them; ``scenario`` says what a row is; the modules ``of_...`` are the table.
"""
