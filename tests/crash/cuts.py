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
import traceback
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from tests.crash import told
from tests.crash import tree as trees
from tests.crash.known import Known
from tests.crash.recorder import JobError, Note, Recorder
from tests.crash.states import MODELS, Counts, State, states
from tests.crash.tree import Directory, Operation, Tree, Truncate, Write

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


class Scenario(Protocol):
    """Pickled; each method works in the current directory of a process that may be thrown away."""

    @property
    def name(self) -> str: ...

    @property
    def insignificant(self) -> Collection[str]:
        """Paths of files whose content decides nothing: no state differs by what is in them."""
        ...

    def shape(self, tree: Tree, mark: str) -> bytes:
        """Equal where two states differ in nothing but random numbers."""
        ...

    def prepare(self) -> str:
        """What is there before the run. The mark says what is visible outside."""
        ...

    def act(self, mark: str, note: Note) -> None:
        """The run, noting each change of what is visible outside."""
        ...

    def go_on(self, mark: str, killed: bool, note: Note | None) -> Verdict:
        """What a boot does, to the end of all that was begun; ``mark`` is the latest one.

        ``killed``: there is no boot; the process died and is started again.
        ``note`` is None where this is not cut itself.
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
        booted: how each shape that was booted from has ended.
        failures: kind, and a line for a person.
    """

    points: int = 0
    bounded: int = 0
    booted: dict[bytes, str] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)

    def disks(self, run: Run, mark: str, killed: Run | None = None) -> Iterator[State]:
        """What a cut may leave of a recorded run, by every model; each state once."""
        past = killed or Run(run.start, ())
        operations = [*past.operations, *run.operations]
        seen, counts, first = set[bytes](), Counts(), len(past.operations)
        self.points += len(run.operations)
        for model in MODELS:
            yield from states(
                past.start, operations, model, mark=mark, first=first, counts=counts, seen=seen
            )
        self.bounded += counts.bounded

    def judge(self, shape: bytes, state: State, verdict: Verdict, before: str = "") -> None:
        self.booted[shape] = verdict.ended
        self.failures += [
            (kind, f"{before}{state.where()}: {text}") for kind, text in verdict.broken
        ]

    def ended(self, how: str) -> int:
        return list(self.booted.values()).count(how)

    def add(self, other: Tally) -> None:
        self.booted |= other.booted
        self.points += other.points
        self.bounded += other.bounded
        self.failures += other.failures


class Bench:
    """One worker's place in memory, and its recorder.

    Attributes:
        known: shapes of the scenario at hand that were booted from.
    """

    def __init__(self, recorder: Recorder, place: str) -> None:
        self.known = Known(os.path.join(place, "known"))
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
                return scenario.go_on(state.mark, False, None)
            except Exception:  # noqa: BLE001  # whatever it is, it is what was found
                return _fell_over(traceback.format_exc())

    def boot_all(self, scenario: Scenario, found: Sequence[State]) -> Tally:
        tally = Tally()
        for state in found:
            self._judge(tally, scenario, state)
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
            job = (scenario.go_on, state.mark, killed is not None)
            try:
                record = self._recorder.record(self._place, *job, start=state.tree)
            except JobError as error:
                tally.judge(
                    scenario.shape(state.tree, state.mark), state, _fell_over(str(error)), before
                )
                return tally
        tally.judge(scenario.shape(state.tree, state.mark), state, record.result, before)
        run = significant(Run(record.start, record.operations), scenario.insignificant)
        found = list(tally.disks(run, state.mark, killed))
        then = f"{before}{state.where()}; {'killed, ' if killed else ''}then "
        chosen = draw(len(found), deeper, then)
        for number, again in enumerate(found):
            if number in chosen:
                tally.add(self.boot_and_cut(scenario, again, 0, None, then))
            else:
                self._judge(tally, scenario, again, then)
        return tally

    def _judge(self, tally: Tally, scenario: Scenario, state: State, before: str = "") -> None:
        """From each shape one boot: the next would be the same but for its random numbers."""
        shape = scenario.shape(state.tree, state.mark)
        if self.known.add(shape):
            tally.judge(shape, state, self.boot(scenario, state), before)

    @contextmanager
    def _disk(self, tree: Tree) -> Iterator[None]:
        trees.write(tree, self._place)
        os.chdir(self._place)
        try:
            yield
        finally:
            os.chdir("/")
            shutil.rmtree(self._place)


def significant(run: Run, insignificant: Collection[str]) -> Run:
    """``run`` without what it wrote into files whose content decides nothing."""
    names, kept = told.names(run.start), []
    for operation in run.operations:
        told.follow(names, operation)
        changed = isinstance(operation, (Write, Truncate)) and names[operation.inode]
        if changed not in insignificant:
            kept.append(operation)
    return Run(run.start, tuple(kept))


def draw(there: int, wanted: int | None, seed: str) -> set[int]:
    """Numbers of those that are taken; None is all of them. The same ones each time."""
    if wanted is None or wanted >= there:
        return set(range(there))
    return set(random.Random(seed).sample(range(there), wanted))  # noqa: S311  # no secret


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
