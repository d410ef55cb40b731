"""SIGTERM as Control-C: a run that the service ends in good order can say so."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def by_sigterm() -> Iterator[None]:
    """Within it SIGTERM raises KeyboardInterrupt in the main thread, wherever that is.

    Without it the process is gone at once, which is as safe, but leaves no word of why.
    So it is with SIGALRM, by which the service ends what has taken too long.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
