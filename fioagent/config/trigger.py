"""The ``fio-rotate-certs`` file: the operator's word that a device shall rotate.

Lines of ``NAME=VALUE``. The stock handler greps it without anchors and stops at
the second ``=``; here a comment is a comment and a value goes to the line's end.
"""

from __future__ import annotations

FILE_NAME = "fio-rotate-certs"


def parse(text: str) -> dict[str, str]:
    """Values by name; the last of two wins."""
    values = {}
    for line in text.splitlines():
        name, separator, value = line.strip().partition("=")
        if separator and not name.startswith("#"):
            values[name.strip()] = value.strip()
    return values
