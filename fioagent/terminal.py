"""What a terminal is to us: a line that changes in its place, and letters that it has.

No colour and no escape sequence: a carriage return and blanks work on every console, and
at 115200 baud a line costs 7 ms. A screen reader would read it again and again, so it is
there only where a person can see it, and ``--plain`` or ``TERM=dumb`` turns it off.
"""

from __future__ import annotations

import contextlib
import io
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Final, TextIO

WIDTH: Final = 79  # columns; the 80th would wrap on some consoles
_PERIOD_S: Final = 1.0
_LOCALE: Final = ("LC_ALL", "LC_CTYPE", "LANG")  # the first that is set counts, locale(7)


class WorkLine:
    """What is under way and for how long, drawn again each second; used as a context.

    What takes less than that is never drawn. Nothing is left of it when something else
    is said or the context ends.
    """

    def __init__(self, stream: TextIO, environ: Mapping[str, str], *, wanted: bool) -> None:
        self._stream = stream
        self._is_on = wanted and environ.get("TERM", "dumb") != "dumb" and stream.isatty()
        self._began = time.monotonic()
        self._doing = ""
        self._drawn = False
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        if self._is_on:
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._is_on:
            self._thread.join()
            self._clear()

    def doing(self, what: str) -> None:
        """From now on ``what`` is under way; short."""
        self._doing = what

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Within it somebody else has the terminal."""
        with self._lock:
            self._clear()
            yield

    def _run(self) -> None:
        while not self._over.wait(_PERIOD_S):
            with self._lock:
                self._draw()

    def _draw(self) -> None:
        elapsed = time.monotonic() - self._began
        self._write(f"{elapsed:5.0f} s  {self._doing} ..."[:WIDTH].ljust(WIDTH))
        self._drawn = True

    def _clear(self) -> None:
        if self._drawn:
            self._write(" " * WIDTH)
            self._drawn = False

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a terminal that hung up
            self._stream.write(f"\r{text}\r")
            self._stream.flush()


def lines(stream: TextIO, text: str) -> list[str]:
    """``text``, folded for a person; whole for a program that reads it."""
    if not stream.isatty():
        return [text]
    indent = text[: len(text) - len(text.lstrip())]
    return textwrap.wrap(
        text.lstrip(),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent or "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def speak_plainly(environ: Mapping[str, str]) -> None:
    """What the terminal's letters do not have is escaped; the C locale has ASCII alone.

    Names of certificates and words of servers may hold anything, and Python takes C for
    UTF-8. A pipe or a file gets UTF-8 as before, and no letter is a reason to fail.
    """
    locale = next((environ[name] for name in _LOCALE if environ.get(name)), "C")
    has_letters = "utf8" in locale.lower().replace("-", "")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = "ascii" if stream.isatty() and not has_letters else None
            stream.reconfigure(encoding=encoding, errors="backslashreplace")
