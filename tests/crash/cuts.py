"""A run is cut at every place, and what a boot does afterwards is cut in turn.

Knows nothing of rotations: a scenario says what runs, what a boot does and what
is broken. The run is recorded once; each distinct disk that a power cut may have
left of it is written to a file system in memory and booted from. For the second
cut such a boot is recorded itself, from as many of those disks as are asked for.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Final, Protocol, cast

from tests.crash import tree as trees
from tests.crash.recorder import JobError, Note, Recorder, recording
from tests.crash.states import MODELS, Counts, State, distinct, states
from tests.crash.tree import Directory, Operation, Tree, Truncate, Write

_MEMORY: Final = "/dev/shm"  # noqa: S108  # a directory with a random name is made in it
_BATCH: Final = 25  # states that a worker is given at once
_LONGEST_S: Final = 60  # that a boot may take, with a debugger's patience


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a boot and all that follows it came to.

    Attributes:
        broken: kind, "stranded" or "broken", and what was found.
        ended: "rotated" or "reverted"; "" where neither can be said.
    """

    broken: tuple[tuple[str, str], ...] = ()
    ended: str = ""


@dataclass(frozen=True, slots=True)
class Depth:
    """How many boots are cut in turn; None is all of them.

    Attributes:
        second: of those after the first cut.
        third: of those after each second cut.
    """

    second: int | None
    third: int = 0


class Scenario(Protocol):
    """Pickled; each method works in the current directory of a process that may be thrown away."""

    @property
    def name(self) -> str: ...

    @property
    def insignificant(self) -> Collection[str]:
        """Paths of files whose content decides nothing: no state differs by what is in them."""
        ...

    def prepare(self) -> str:
        """What is there before the run. The mark says what is visible outside."""
        ...

    def act(self, mark: str, note: Note) -> None:
        """The run, noting each change of what is visible outside."""
        ...

    def boot(self, mark: str, note: Note | None) -> Verdict:
        """What a boot does, to the end of all that was begun; ``mark`` is the latest one.

        ``note`` is None where the boot itself is not cut.
        """
        ...


@dataclass(frozen=True, slots=True)
class Run:
    """What one process did."""

    start: Tree
    operations: tuple[Operation, ...]


@dataclass(slots=True)
class Tally:
    """What was found in a number of states.

    Attributes:
        points: operations of the runs that were cut.
        bounded: points with too many choices, of which a share was taken.
        digests: of the states that were booted from.
        failures: kind, and a line for a person.
        ended: how many of them ended how.
    """

    points: int = 0
    bounded: int = 0
    digests: set[bytes] = field(default_factory=set)
    failures: list[tuple[str, str]] = field(default_factory=list)
    ended: dict[str, int] = field(default_factory=dict)

    def disks(self, run: Run, mark: str, killed: Run | None = None) -> Iterator[State]:
        """What a cut may leave of a recorded run, by every model; each state once."""
        past = killed or Run(run.start, ())
        operations = [*past.operations, *run.operations]
        seen, counts, first = set(self.digests), Counts(), len(past.operations)
        self.points += len(run.operations)
        for model in MODELS:
            found = states(past.start, operations, model, mark=mark, first=first, counts=counts)
            yield from distinct(found, seen)
        self.bounded += counts.bounded

    def judge(self, state: State, verdict: Verdict, before: str = "") -> None:
        self.digests.add(state.digest())
        self.failures += [
            (kind, f"{before}{state.where()}: {text}") for kind, text in verdict.broken
        ]
        self.ended[verdict.ended] = self.ended.get(verdict.ended, 0) + 1

    def add(self, other: Tally) -> None:
        self.digests |= other.digests
        self.points += other.points
        self.bounded += other.bounded
        self.failures += other.failures
        for how, many in other.ended.items():
            self.ended[how] = self.ended.get(how, 0) + many


class Bench:
    """One worker's place in memory, and its recorder."""

    def __init__(self, recorder: Recorder, place: str) -> None:
        self._recorder = recorder
        self._place = os.path.join(place, "disk")

    def first_run(self, scenario: Scenario) -> tuple[Run, str]:
        """The recorded run, and the mark before it."""
        with self._disk({trees.ROOT: Directory({}, 0o700)}):
            mark = scenario.prepare()
            record = self._recorder.record(self._place, scenario.act, mark)
            run = Run(record.start, record.operations)
            return significant(run, scenario.insignificant), mark

    def boot(self, scenario: Scenario, state: State) -> Verdict:
        with self._disk(state.tree), _alarm():
            try:
                return scenario.boot(state.mark, None)
            except Exception:  # noqa: BLE001  # whatever it is, it is what was found
                return _fell_over(traceback.format_exc())

    def boot_all(self, scenario: Scenario, found: Sequence[State]) -> Tally:
        tally = Tally()
        for state in found:
            tally.judge(state, self.boot(scenario, state))
        return tally

    def boot_and_cut(
        self, scenario: Scenario, state: State, deeper: int, killed: Run | None, before: str = ""
    ) -> Tally:
        """The next cut: the boot from ``state`` is a run like any other.

        ``deeper`` of the boots that follow are cut in turn. ``killed``: there was
        no boot between; the process that had done this died and was started again.
        """
        tally = Tally()
        with self._disk(state.tree):
            boot = (scenario.boot, state.mark)
            try:
                record = self._recorder.record(self._place, *boot, start=state.tree)
            except JobError as error:
                tally.judge(state, _fell_over(str(error)), before)
                return tally
        tally.judge(state, record.result, before)
        run = significant(Run(record.start, record.operations), scenario.insignificant)
        found = list(tally.disks(run, state.mark, killed))
        then = f"{before}{state.where()}; {'killed, ' if killed else ''}then "
        chosen = _draw(len(found), deeper, then)
        for number, again in enumerate(found):
            if number in chosen:
                tally.add(self.boot_and_cut(scenario, again, 0, None, then))
            else:
                tally.judge(again, self.boot(scenario, again), then)
        return tally

    @contextmanager
    def _disk(self, tree: Tree) -> Iterator[None]:
        trees.write(tree, self._place)
        os.chdir(self._place)
        try:
            yield
        finally:
            os.chdir("/")
            shutil.rmtree(self._place)


class Workers:
    """Processes with a bench each; closed, they end."""

    def __init__(self, jobs: int, place: str) -> None:
        fork = get_context("fork")
        self._connections: list[Connection] = []
        self._processes: list[BaseProcess] = []
        for _ in range(jobs):
            ours, theirs = Pipe()
            known = [ours, *self._connections]
            process = fork.Process(target=_work, args=(theirs, known, place), daemon=True)
            process.start()
            theirs.close()
            self._connections.append(ours)
            self._processes.append(process)
        self._idle = list(self._connections)

    def cut(self, scenario: Scenario, depth: Depth) -> Iterator[Tally]:
        """The tally so far, again and again; the last one is all.

        Every state of the first cut is booted from, and those of further cuts as
        far as ``depth`` goes.
        """
        [(run, mark)] = self._results([(Bench.first_run, scenario)])
        tally = Tally()
        firsts = list(tally.disks(run, mark))
        chosen = _draw(len(firsts), depth.second, scenario.name)
        rest = [state for number, state in enumerate(firsts) if number not in chosen]
        tasks: list[tuple[Any, ...]]
        tasks = [(Bench.boot_all, scenario, batch) for batch in _batches(rest)]
        for state in (firsts[number] for number in sorted(chosen)):
            tasks.append((Bench.boot_and_cut, scenario, state, depth.third, None))
            if state.model == "kill":
                killed = Run(run.start, run.operations[: state.point])
                tasks.append((Bench.boot_and_cut, scenario, state, depth.third, killed))
        yield tally
        for found in self._results(tasks):
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
            connection.send(task)
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
    """Their disks are in memory where there is room for that."""
    parent = _MEMORY if os.path.isdir(_MEMORY) else None
    with tempfile.TemporaryDirectory(prefix="fioagent-crash-", dir=parent) as place:
        made = Workers(jobs, place)
        try:
            yield made
        finally:
            made.close()


def _work(tasks: Connection, others: Sequence[Connection], place: str) -> None:
    """One task after the other, until the other side closes."""
    for connection in others:
        connection.close()
    with recording() as recorder:
        bench = Bench(recorder, tempfile.mkdtemp(dir=place))
        while True:
            try:
                tasks.send(_answer(bench, *tasks.recv()))
            except (EOFError, BrokenPipeError):
                return


def _answer(bench: Bench, act: Callable[..., Any], *arguments: Any) -> tuple[str | None, Any]:
    """The error or the result."""
    try:
        return None, act(bench, *arguments)
    except Exception:  # noqa: BLE001  # told to the other side, whatever it is
        return traceback.format_exc(), None


def significant(run: Run, insignificant: Collection[str]) -> Run:
    """``run`` without what it wrote into files whose content decides nothing."""
    names, kept = trees.names(run.start), []
    for operation in run.operations:
        trees.follow(names, operation)
        changed = isinstance(operation, (Write, Truncate)) and names[operation.inode]
        if changed not in insignificant:
            kept.append(operation)
    return Run(run.start, tuple(kept))


def _draw(there: int, wanted: int | None, seed: str) -> set[int]:
    """Numbers of those that are taken; None is all of them. The same ones each time."""
    if wanted is None or wanted >= there:
        return set(range(there))
    return set(random.Random(seed).sample(range(there), wanted))  # noqa: S311  # no secret


def _batches(found: Sequence[State]) -> Iterator[Sequence[State]]:
    for first in range(0, len(found), _BATCH):
        yield found[first : first + _BATCH]


def _fell_over(text: str) -> Verdict:
    return Verdict((("broken", " / ".join(text.strip().splitlines()[-3:])),))


@contextmanager
def _alarm() -> Iterator[None]:
    """A boot that hangs is one that failed."""
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(_LONGEST_S)
    try:
        yield
    finally:
        signal.alarm(0)


def _too_long(number: int, frame: object) -> None:
    del number, frame
    raise TimeoutError(f"not at an end after {_LONGEST_S} s")
