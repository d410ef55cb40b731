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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Final, Protocol

from tests.crash import tree as trees
from tests.crash.recorder import JobError, Note, Recorder, Recording, recording
from tests.crash.states import MODELS, Counts, State, distinct, states
from tests.crash.tree import Directory, Tree

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


class Scenario(Protocol):
    """Pickled; each method works in the current directory of a process that may be thrown away."""

    @property
    def name(self) -> str: ...

    def prepare(self) -> str:
        """What is there before the run. The mark says what is visible outside."""
        ...

    def act(self, mark: str, note: Note) -> None:
        """The run, noting each change of what is visible outside."""
        ...

    def boot(self, mark: str, note: Note) -> Verdict:
        """What a boot does, to the end of all that was begun; ``mark`` is the latest one."""
        ...


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

    def disks(self, record: Recording, mark: str) -> Iterator[State]:
        """What a cut may leave of a recorded run, by every model; each state once."""
        seen, counts = set(self.digests), Counts()
        self.points += len(record.operations)
        for model in MODELS:
            found = states(record.start, record.operations, model, mark=mark, counts=counts)
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

    def first_run(self, scenario: Scenario) -> tuple[Recording, str]:
        """The recorded run, and the mark before it."""
        with self._disk({trees.ROOT: Directory({}, 0o700)}):
            mark = scenario.prepare()
            return self._recorder.record(self._place, scenario.act, mark), mark

    def boot(self, scenario: Scenario, state: State) -> Verdict:
        with self._disk(state.tree), _alarm():
            try:
                return scenario.boot(state.mark, _unheard)
            except Exception:  # noqa: BLE001  # whatever it is, it is what was found
                return _fell_over(traceback.format_exc())

    def boot_and_cut(self, scenario: Scenario, state: State) -> Tally:
        """The second cut: the boot from ``state`` is a run like any other."""
        tally, before = Tally(), f"{state.where()}; then "
        with self._disk(state.tree):
            try:
                record = self._recorder.record(self._place, scenario.boot, state.mark)
            except JobError as error:
                tally.judge(state, _fell_over(str(error)))
                return tally
        tally.judge(state, record.result)
        for again in tally.disks(record, state.mark):
            tally.judge(again, self.boot(scenario, again), before)
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
    """Processes with a bench each."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def cut(self, scenario: Scenario, again: int | None, told: Callable[[Tally], None]) -> Tally:
        """Every state of the first cut; of the second, those that follow ``again`` of them.

        None is all of them. ``told`` hears of the tally so far.
        """
        record, mark = self._pool.submit(_first_run, scenario).result()
        tally = Tally()
        firsts = list(tally.disks(record, mark))
        draw = random.Random(scenario.name)  # noqa: S311  # a draw, not a secret
        chosen = firsts if again is None else draw.sample(firsts, min(again, len(firsts)))
        # The long ones first.
        work = [self._pool.submit(_boot_and_cut, scenario, state) for state in chosen]
        cut = {id(state) for state in chosen}
        rest = [state for state in firsts if id(state) not in cut]
        work += [self._pool.submit(_boot, scenario, batch) for batch in _batches(rest)]
        for done in as_completed(work):
            tally.add(done.result())
            told(tally)
        return tally


@contextmanager
def workers(jobs: int) -> Iterator[Workers]:
    parent = _MEMORY if os.path.isdir(_MEMORY) else None
    fork = get_context("fork")
    with (
        tempfile.TemporaryDirectory(prefix="fioagent-crash-", dir=parent) as place,
        ProcessPoolExecutor(jobs, fork, initializer=_open_bench, initargs=(place,)) as pool,
    ):
        yield Workers(pool)


_kept = ExitStack()
_benches: list[Bench] = []  # of this worker process: one, once it is open


def _open_bench(place: str) -> None:
    own = tempfile.mkdtemp(dir=place)
    _benches.append(Bench(_kept.enter_context(recording()), own))


def _first_run(scenario: Scenario) -> tuple[Recording, str]:
    return _benches[0].first_run(scenario)


def _boot(scenario: Scenario, batch: Sequence[State]) -> Tally:
    tally = Tally()
    for state in batch:
        tally.judge(state, _benches[0].boot(scenario, state))
    return tally


def _boot_and_cut(scenario: Scenario, state: State) -> Tally:
    return _benches[0].boot_and_cut(scenario, state)


def _batches(found: Sequence[State]) -> Iterator[Sequence[State]]:
    for first in range(0, len(found), _BATCH):
        yield found[first : first + _BATCH]


def _fell_over(text: str) -> Verdict:
    return Verdict((("broken", " / ".join(text.strip().splitlines()[-3:])),))


def _unheard(text: str) -> None:
    del text


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
