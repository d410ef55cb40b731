"""The tests, and ``python3 -m tests``, which sets up what they need and runs every check."""

import sys

if sys.version_info < (3, 10):  # noqa: UP036  # the rest of the folder does not even parse there
    sys.exit(f"cannot start: Python 3.10 or later is needed, this is {sys.version.split()[0]}")
