"""Processes that are not this one's children."""

from __future__ import annotations

import os
import select


def has_ended(pid: int, within_s: float = 30) -> bool:
    """Waits for it; a zombie that init has not looked at yet has ended.

    A signal that was sent has not yet done its work, not even SIGKILL.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], within_s)[0])
    finally:
        os.close(descriptor)
