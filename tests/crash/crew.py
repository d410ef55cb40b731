"""Processes that cut a scenario together, each with a bench of its own."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Final, cast

from tests.crash.cuts import Bench, Run, Scenario, Tally, draw
from tests.crash.known import Known
from tests.crash.recorder import recording
from tests.crash.states import State

_MEMORY: Final = "/dev/shm"  # noqa: S108  # a directory with a random name is made in it
_BATCH: Final = 25  # states that a worker is given at once


@dataclass(frozen=True, slots=True)
class Depth:
    """How many boots are cut in turn; None is all of them.

    Attributes:
        second: of those after the first cut.
        third: of those after each second cut.
    """

    second: int | None
    third: int = 0


class Workers:
    """Processes with a bench each; closed, they end."""

    def __init__(self, jobs: int, place: str) -> None:
        # Not forked: who makes them may have threads, and a lock that one holds stays held.
        fresh = get_context("spawn")
        self._connections: list[Connection] = []
        self._processes: list[BaseProcess] = []
        for _ in range(jobs):
            ours, theirs = Pipe()
            process = fresh.Process(target=_work, args=(theirs, place), daemon=True)
            process.start()
            theirs.close()
            self._connections.append(ours)
            self._processes.append(process)
        self._idle = list(self._connections)
        self._scenarios = 0  # begun

    def cut(self, scenario: Scenario, depth: Depth) -> Iterator[Tally]:
        """The tally so far, again and again; the last one is all.

        Every state of the first cut is booted from, and those of further cuts as
        far as ``depth`` goes.
        """
        self._scenarios += 1
        [(run, mark)] = self._results([(Bench.first_run, scenario)])
        tally = Tally()
        yield tally
        for found in self._results(_tasks(scenario, run, tally.disks(run, mark), depth)):
            tally.add(found)
            yield tally

    def close(self) -> None:
        """What is still under way is ended, and not heard of."""
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.join()

    def _results(self, tasks: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Of each task, in the order in which they end."""
        busy: list[Connection] = []
        for task in tasks:
            if not self._idle:
                yield self._result(busy)
            connection = self._idle.pop()
            connection.send((self._scenarios, *task))
            busy.append(connection)
        while busy:
            yield self._result(busy)

    def _result(self, busy: list[Connection]) -> Any:
        connection = cast("Connection", wait(busy)[0])
        busy.remove(connection)
        error, result = connection.recv()
        self._idle.append(connection)
        if error is not None:
            raise RuntimeError(error)
        return result


@contextmanager
def workers(jobs: int) -> Iterator[Workers]:
    """Their disks are in memory where there is room for that.

    Raises:
        FileNotFoundError: strace is not there.
    """
    if shutil.which("strace") is None:
        raise FileNotFoundError("cannot record system calls: strace is not installed")
    parent = _MEMORY if os.path.isdir(_MEMORY) else None
    with tempfile.TemporaryDirectory(prefix="fioagent-crash-", dir=parent) as place:
        made = Workers(jobs, place)
        try:
            yield made
        finally:
            made.close()


def _work(tasks: Connection, place: str) -> None:
    """One task after the other, until the other side closes."""
    with recording() as recorder:
        bench, at_hand = Bench(recorder, tempfile.mkdtemp(dir=place)), 0
        while True:
            try:
                scenario, *task = tasks.recv()
                if scenario != at_hand:
                    at_hand, bench.known = scenario, Known(os.path.join(place, f"known-{scenario}"))
                tasks.send(_answer(bench, *task))
            except (EOFError, BrokenPipeError):
                return


def _tasks(
    scenario: Scenario, run: Run, firsts: Iterator[State], depth: Depth
) -> Iterator[tuple[Any, ...]]:
    """First all that one cut may leave, while it is still being enumerated."""
    known: list[State] = []
    while batch := list(itertools.islice(firsts, _BATCH)):
        known += batch
        yield Bench.boot_all, scenario, batch
    chosen = draw(len(known), depth.second, scenario.name)
    for state in (known[number] for number in sorted(chosen)):
        yield Bench.boot_and_cut, scenario, state, depth.third, None
        if state.model == "kill":
            killed = Run(run.start, run.operations[: state.point])
            yield Bench.boot_and_cut, scenario, state, depth.third, killed


def _answer(bench: Bench, act: Callable[..., Any], *arguments: Any) -> tuple[str | None, Any]:
    """The error or the result."""
    try:
        return None, act(bench, *arguments)
    except Exception:  # noqa: BLE001  # told to the other side, whatever it is
        return traceback.format_exc(), None
