"""Layer 2: a real process, killed or refused at each of its file-system calls.

``python -m fioagent rotate`` runs against the real factory under strace. It is
killed at the entry of every call that changes something on the device, in its own
files or in the store of its token; calls that change something are refused with
ENOSPC, EIO, EROFS or EDQUOT, and reading calls with EIO. Then what a boot or a timer
does, in this process: is the gateway reachable with what sota.toml names, does the
next run bring the rotation to its end, is the end the promised one. The full run
takes all of that of the first rotation, and kills ``recover`` and the resumed
``rotate`` as well; of the other scenarios every kill, or a share of them, and a share
of the refusals. The quick run takes a share of it all.

A TPM stays on when the process dies, or loses its power with it, in turn.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import cycle, product
from pathlib import Path
from typing import Final, TypeVar

from tests.crash.kill_scenarios import (
    FIRST,
    ROTATE,
    SCENARIOS,
    TPM,
    Scenario,
    check_end,
    devices,
)
from tests.crash.report import Row
from tests.crash.subjects import Subject
from tests.crash.syscalls import KILL, Command, Fault, Point, TokenLostError, disturbed, recorded
from tests.crash.trial import RECOVER, Trial, Verdict, tried, what_fails
from tests.tokens import tpm_derives

LAYER: Final = "2 kills"
ERRNOS: Final = ("ENOSPC", "EIO", "EROFS", "EDQUOT")
THOROUGH: Final = (FIRST,)
# Of a resumed run: finding its way back and the repeated step. What follows is the same
# as in a run that was never cut.
SECOND_KILLS: Final = 6
_ATTEMPTS: Final = 3
_CHUNK: Final = 6  # devices that share a factory
_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


def run(*, full: bool, jobs: int, stop_early: bool = False, store: str = "") -> list[Row]:
    """A row for the kills of each scenario, one for its refusals, in the full run one for pairs.

    ``stop_early``: the first failure is enough. ``store``: where the keys have to be.
    """
    rows: list[Row] = []
    seen = set[str]()
    place = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108  # memory is fast
    with (
        tempfile.TemporaryDirectory(prefix="fioagent-kills-", dir=place) as scratch,
        ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool,
    ):
        wanted = [each for each in _possible() if store in ("", each.store)]
        labs = [Lab(pool, each, scratch, stop_early, seen) for each in wanted]
        baselines = [(lab, *lab.baseline()) for lab in labs]
        for lab, _, trouble in baselines:
            if trouble:
                rows.append(_row(lab, "undisturbed", [], [trouble], time.monotonic()))
        for lab, calls, _ in baselines:
            if stop_early and any(row.failures for row in rows):
                break
            rows += _rows(lab, calls, full=full)
    return rows


def _possible() -> Iterator[Scenario]:
    """A word of those whose tokens this machine has not."""
    for scenario in SCENARIOS.values():
        if scenario.store == TPM and not tpm_derives():
            print(f"{LAYER}: {scenario.name}: not tried, no tpm2-pkcs11 1.9.1", file=sys.stderr)
        else:
            yield scenario


def _rows(lab: Lab, calls: Sequence[Point], *, full: bool) -> Iterator[Row]:
    if not calls:
        return
    started = time.monotonic()
    thorough = lab.scenario in THOROUGH
    stride = lab.scenario.full_stride if full else lab.scenario.stride
    powers = (False, True) if lab.scenario.store == TPM else (None,)
    verdicts = lab.verdicts(kills(calls, powers, every_way=full and thorough, stride=stride))
    yield _row(lab, "killed", verdicts, [], started)
    if full or thorough:
        started = time.monotonic()
        stride = 2 if not full else 1 if thorough else 4 * lab.scenario.full_stride
        refused = lab.verdicts(refusals(calls, every_error=full and thorough, stride=stride))
        yield _row(lab, "refused", refused, [], started)
    if full and thorough:
        started = time.monotonic()
        twice = lab.verdicts(lab.pairs(verdicts))
        yield _row(lab, "killed twice", twice, [], started)


def kills(
    calls: Sequence[Point], powers: Sequence[bool | None], *, every_way: bool, stride: int
) -> list[Trial]:
    """Every ``stride``-th, followed in each of the ways, or in one of them, in turn.

    A boot or the timer, another program or none, and whatever of ``powers`` becomes of a TPM.
    """
    faults = [Fault(point, KILL) for point in calls if point.changes]
    ways = list(product((False, True), (False, True), powers))
    if every_way:
        followed = list(product(faults[::stride], ways))
    else:
        followed = list(zip(faults[::stride], cycle(ways), strict=False))
    return [Trial(fault, None, *way) for fault, way in followed]


def refusals(calls: Sequence[Point], *, every_error: bool, stride: int) -> list[Trial]:
    """Of every ``stride``-th call that changes something: one error, in turn.

    Or each of them, and of reading calls EIO.
    """
    changing = [point for point in calls if point.changes][::stride]
    if every_error:
        pairs = list(product(changing, ERRNOS))
        pairs += [(point, "EIO") for point in calls if not point.changes]
    else:
        pairs = list(zip(changing, cycle(ERRNOS), strict=False))
    return [Trial(Fault(point, f"error={name}")) for point, name in pairs]


@dataclass(frozen=True, slots=True)
class Lab:
    """Where devices of one scenario are made and looked at, some at a time."""

    pool: ProcessPoolExecutor
    scenario: Scenario
    scratch: str
    stop_early: bool
    seen: set[str]  # states that were counted, in whatever row

    def baseline(self) -> tuple[list[Point], str]:
        """The calls of a run that nothing disturbs, and what is wrong with its end."""
        return self.pool.submit(_baseline, self.scenario.name, self.scratch).result()

    def verdicts(self, trials: Sequence[Trial]) -> list[Verdict]:
        found: list[Verdict] = []
        for verdict in self._each(_tried, trials):
            found.append(verdict)
            if self.stop_early and (verdict.stranded or verdict.broken):
                break
        return found

    def pairs(self, verdicts: Sequence[Verdict]) -> list[Trial]:
        """One kill for each state that kills leave, then another one in what comes next."""
        firsts: dict[str, Fault] = {}
        for verdict in verdicts:
            for state in verdict.states:
                firsts.setdefault(state, verdict.trial.fault)
        return [
            Trial(fault, then=(command, Fault(point, KILL)), boots=bool(i % 2))
            for fault, command, calls in self._each(_followed, list(firsts.values()))
            for i, point in enumerate([p for p in calls if p.changes][:SECOND_KILLS])
        ]

    def _each(
        self, work: Callable[[str, Sequence[_Item], str], list[_Found]], items: Sequence[_Item]
    ) -> Iterator[_Found]:
        chunks = [items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK)]
        same = [[self.scenario.name] * len(chunks), [self.scratch] * len(chunks)]
        for done in self.pool.map(work, same[0], chunks, same[1]):
            yield from done


def _row(lab: Lab, name: str, verdicts: list[Verdict], trouble: list[str], started: float) -> Row:
    states = {state for each in verdicts for state in each.states} - lab.seen
    lab.seen.update(states)
    failures = trouble + [line for each in verdicts for line in (*each.stranded, *each.broken)]
    row = Row(
        layer=LAYER,
        scenario=f"{lab.scenario.name}, {name}",
        store=lab.scenario.store,
        points=len(verdicts),
        states=len(states),
        stranded=sum(bool(each.stranded) for each in verdicts),
        broken=sum(bool(each.broken) and not each.stranded for each in verdicts) + len(trouble),
        rotated=sum(each.ended == "rotated" for each in verdicts),
        reverted=sum(each.ended == "reverted" for each in verdicts),
        failures=tuple(f"{lab.scenario.name}: {line}" for line in failures),
        seconds=time.monotonic() - started,
    )
    print(f"{row.layer}: {row.scenario}: {row.points} points, {row.seconds:.0f} s", file=sys.stderr)
    return row


# --- in a process of the pool ---


@contextlib.contextmanager
def _lab(name: str, scratch: str) -> Iterator[tuple[Scenario, Callable[[], Subject], Path]]:
    """The scenario, what makes its devices, and a place for strace's log."""
    scenario = SCENARIOS[name]
    with tempfile.TemporaryDirectory(dir=scratch) as place, devices(Path(place), scenario) as make:
        yield scenario, make, Path(place) / "log"


def _baseline(name: str, scratch: str) -> tuple[list[Point], str]:
    calls: list[Point] = []
    with _lab(name, scratch) as (scenario, make, log):

        def undisturbed() -> None:
            subject = make()
            ran, found = recorded(ROTATE, subject.env, subject.directory, log)
            assert ran.code == scenario.code, ran
            check_end(subject, scenario)
            calls.extend(found)

        trouble = what_fails(undisturbed)
    return calls, trouble and f"a run that nothing disturbs: {trouble}"


def _tried(name: str, trials: Sequence[Trial], scratch: str) -> list[Verdict]:
    with _lab(name, scratch) as (scenario, make, log):
        return [_after_attempts(make, scenario, trial, log) for trial in trials]


def _after_attempts(
    make: Callable[[], Subject], scenario: Scenario, trial: Trial, log: Path
) -> Verdict:
    """With another device where SoftHSM, and not the agent, has lost the token."""
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(TokenLostError):
            return tried(make(), scenario, trial, log)
    return Verdict(trial, broken=[f"{trial}: it has befallen another call {_ATTEMPTS} times"])


def _followed(
    name: str, faults: Sequence[Fault], scratch: str
) -> list[tuple[Fault, Command, list[Point]]]:
    """What may come after each kill, and its calls."""
    found: list[tuple[Fault, Command, list[Point]]] = []
    with _lab(name, scratch) as (_, make, log):
        for fault in faults:
            for command in (RECOVER, ROTATE):
                subject = make()
                place = (subject.env, subject.directory, log)
                disturbed(fault, ROTATE, *place)
                found.append((fault, command, recorded(command, *place)[1]))
    return found
