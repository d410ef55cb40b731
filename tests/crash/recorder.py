"""Runs functions in children of a process that strace follows, and reads what they did.

Starting strace and an interpreter costs half a second, a child of one that runs
already a few milliseconds: so one is started for thousands of recordings. It is
this module run as a program; jobs and results go through a socket, strace's log
through a pipe of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from tests.crash import strace, trace
from tests.crash import tree as trees
from tests.crash.tree import Operation, Tree

Note = Callable[[str], None]
# Called in the child with its own working directory; the last argument is added.
Job = Callable[..., Any]

_TOP: Final = Path(__file__).resolve().parents[2]
_LONGEST_S: Final = 60
_BEGIN: Final = b"BEGIN"  # a child's first word


@dataclass(frozen=True, slots=True)
class Recording:
    """What one job did to a tree.

    Attributes:
        start: the tree before it.
        operations: in order, with what the job has noted between them.
        result: what it returned.
    """

    start: Tree
    operations: tuple[Operation, ...]
    result: Any


class JobError(Exception):
    """The job raised, or its process died; the text is the child's."""


class Recorder:
    """A process with children to be had; ``recording`` makes one and ends it."""

    def __init__(self, jobs: Connection, log: Iterator[str]) -> None:
        self._jobs = jobs
        self._log = log

    def record(
        self, directory: str, job: Job, *arguments: Any, start: Tree | None = None
    ) -> Recording:
        """``job(*arguments, note)`` in a child that works in ``directory``, and may change it.

        ``note(text)`` puts a mark between the operations. ``start`` is what the
        directory holds, where its inodes have numbers already.

        Raises:
            JobError: the job itself failed.
            NotUnderstoodError: it touched the tree in a way that is not modelled.
        """
        root = os.path.realpath(directory)
        known = trees.read(root) if start is None else start
        log, result = self._run(root, known, job, arguments)
        log.check()
        return Recording(known, tuple(log.operations), result)

    def _run(
        self, root: str, start: Tree, job: Job, arguments: tuple[Any, ...]
    ) -> tuple[trace.Log, Any]:
        self._jobs.send((root, job, arguments))
        # Before the answer, because strace waits where nobody reads what it writes.
        log, lines = trace.Log(root, start, root), list(self._lines_of_the_child())
        failed, result = self._jobs.recv()
        if failed:
            raise JobError(result)
        return log.read(lines), result

    def _lines_of_the_child(self) -> Iterator[str]:
        """From its first word to its end; there is one child at a time."""
        child = None
        for line in self._log:
            process, what, *_ = line.split(maxsplit=2)
            if child is None:
                child = process if strace.shown(_BEGIN) in line else None
            elif (child, "+++") == (process, what):
                return
            else:
                yield line
        raise JobError("strace has ended")


@contextlib.contextmanager
def recording() -> Iterator[Recorder]:
    """A recorder for as long as the context lasts. Raises OSError where strace is not there."""
    ours, theirs = Pipe()
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        [
            *("strace", *trace.OPTIONS, "-o", f"/dev/fd/{write_end}"),
            *(sys.executable, "-m", "tests.crash.recorder"),
            *(str(theirs.fileno()), str(write_end)),
        ],
        cwd=_TOP,
        pass_fds=(theirs.fileno(), write_end),
    )
    theirs.close()
    os.close(write_end)
    with open(read_end, encoding="ascii") as log:
        try:
            yield Recorder(ours, iter(log))
        finally:
            ours.close()  # no more jobs
            for _ in log:
                pass  # strace waits where nobody reads what it writes
            process.wait()


def serve(jobs: Connection) -> None:
    """One child for each job, until the other side closes."""
    while True:
        try:
            directory, job, arguments = jobs.recv()
        except EOFError:
            return
        child = os.fork()
        if child == 0:
            _run(jobs, directory, job, arguments)
        _, status = os.waitpid(child, 0)
        if status:
            jobs.send((True, f"the job's process ended with {status}"))


def _run(jobs: Connection, directory: str, job: Job, arguments: tuple[Any, ...]) -> None:
    """Does not return."""
    signal.alarm(_LONGEST_S)
    nowhere = os.open(os.devnull, os.O_WRONLY)  # where strace alone sees what is written
    os.write(nowhere, _BEGIN)
    answer: tuple[bool, Any]
    try:
        os.chdir(directory)
        answer = (False, job(*arguments, lambda text: _note(nowhere, text)))
    except BaseException:  # noqa: BLE001  # told to the other side, whatever it is
        answer = (True, traceback.format_exc())
    jobs.send(answer)
    os._exit(0)


def _note(nowhere: int, text: str) -> None:
    os.write(nowhere, trace.MARK + json.dumps(text).encode())


if __name__ == "__main__":
    os.close(int(sys.argv[2]))  # strace's; open here, its pipe would never end
    serve(Connection(int(sys.argv[1])))
