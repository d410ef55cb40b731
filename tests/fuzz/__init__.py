"""Readers of what others write, given what nobody would write.

``targets`` says what is read and what may be raised, ``inputs`` damages good examples,
``watch`` holds time and memory, ``seeds/`` has the examples, and what was once found.
"""
