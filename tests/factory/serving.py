"""``fioagent-factory serve`` as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path


def serve_command(directory: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "fioagent.factory", "serve", str(directory), *options]


def served(directory: Path, *options: str) -> subprocess.Popen[str]:
    command = serve_command(directory, *options)
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def until_ready(process: subprocess.Popen[str]) -> list[str]:
    """What it has printed until then. AssertionError: it ended before it was ready."""
    lines: list[str] = []
    for line in process.stdout or ():
        lines.append(line)
        if line == "ready\n":
            return lines
    raise AssertionError(f"the factory did not start: {lines}")


@contextmanager
def started(
    command: Sequence[str], *, stderr: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Killed at the end, with whatever it has started."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=stderr, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):  # it has ended, and was waited for
                os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def running(
    command: Sequence[str], *, stderr: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """The same, and ready."""
    with started(command, stderr=stderr) as process:
        until_ready(process)
        yield process
