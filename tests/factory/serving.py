"""``fioagent-factory serve`` as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
def running(
    command: Sequence[str], *, stderr: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Ready inside the ``with``, and killed at its end."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=stderr, text=True) as process:
        try:
            until_ready(process)
            yield process
        finally:
            process.kill()
