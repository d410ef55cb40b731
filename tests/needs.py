"""What a test needs of the machine, and a loud word where it is missing."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.browser import BROWSERS, DRIVER


def root_and(*programs: str) -> None:
    """Skips with the reason; in CI, where all of it has to be there, it fails."""
    missing_here = [program for program in programs if shutil.which(program) is None]
    if os.geteuid() != 0:
        missing_here.insert(0, "root")
    if missing_here:
        missing(f"cannot run without {', '.join(missing_here)}")


def missing(reason: str) -> None:
    """Skips, or fails in CI."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def browser() -> str:
    """The program. Its driver is there too, or it is said that one of them is not."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None or shutil.which(DRIVER) is None:
        missing(f"cannot run without {BROWSERS[0]} and {DRIVER}")
    return str(found)
