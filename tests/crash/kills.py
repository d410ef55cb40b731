"""Layer 2: a real process, killed or refused at each of its file-system calls.

``python -m fioagent rotate`` runs against the real factory under strace. It is
killed at the entry of every call that changes something on the device; every
call is refused with ENOSPC, EIO, EROFS or EDQUOT (in the quick run one of them
a call, in turn), in the full run reading calls with EIO as well. Then what a boot
does, in this process: is the gateway reachable with what sota.toml names, does
the next run bring the rotation to its end, is the end the promised one.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Final

from tests.crash import shape
from tests.crash.kill_scenarios import (
    CODES,
    FIRST,
    GIVEN_UP,
    ROTATE,
    SCENARIOS,
    Scenario,
    check_end,
    check_kept,
    check_reachable_at_boot,
    devices,
)
from tests.crash.report import Row
from tests.crash.syscalls import (
    KILL,
    Fault,
    InjectionError,
    Point,
    Ran,
    disturbed,
    recorded,
)
from tests.world import World

LAYER: Final = "2 kills"
ERRNOS: Final = ("ENOSPC", "EIO", "EROFS", "EDQUOT")
REFUSED_IN_THE_QUICK_RUN: Final = (FIRST, GIVEN_UP)
_CHUNK: Final = 8  # trials that share a factory


@dataclass(frozen=True, slots=True)
class Trial:
    """One device's misfortune.

    Attributes:
        fault: what happens to the run.
        polled: another program uses the live pair before the next run.
    """

    fault: Fault
    polled: bool

    def __str__(self) -> str:
        return f"{self.fault}{' polled' if self.polled else ''}"


@dataclass(slots=True)
class Verdict:
    """What became of it."""

    trial: Trial
    state: str = ""
    rotated: bool = False
    stranded: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def hold(self, into: list[str], when: str, check: Callable[[], object]) -> bool:
        """Whether the check passes; what it says goes into ``stranded`` or ``broken``."""
        try:
            check()
        except Exception as error:  # noqa: BLE001  # whatever a check meets is what it found
            said = " ".join(str(error).split())[:300]
            into.append(f"{self.trial}: {when}: {type(error).__name__}: {said}")
            return False
        return True


def run(*, full: bool, jobs: int) -> list[Row]:
    """Every scenario, one row for its kills and one for its refusals."""
    rows = []
    place = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108  # memory is fast
    with (
        tempfile.TemporaryDirectory(prefix="fioagent-kills-", dir=place) as scratch,
        ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool,
    ):
        for scenario in SCENARIOS.values():
            calls = _baseline(scenario, Path(scratch))
            rows.append(_row(pool, scenario, "killed", _kills(calls, full=full), scratch))
            if full or scenario in REFUSED_IN_THE_QUICK_RUN:
                rows.append(_row(pool, scenario, "refused", _refusals(calls, full=full), scratch))
    return rows


def _baseline(scenario: Scenario, scratch: Path) -> list[Point]:
    """The calls of a run that nothing disturbs. AssertionError: it does not end as it should."""
    with tempfile.TemporaryDirectory(dir=scratch) as place, devices(Path(place), scenario) as make:
        world = make()
        directory = world.device.directory
        ran, calls = recorded(ROTATE, world.device.env, directory, Path(place) / "log")
        assert ran.code == scenario.code, f"{scenario.name}: {ran}"
        check_end(world, scenario)
    return calls


def _kills(calls: Sequence[Point], *, full: bool) -> list[Trial]:
    faults = [Fault(point, KILL) for point in calls if point.changes]
    if full:
        return [Trial(fault, polled) for fault in faults for polled in (False, True)]
    return [Trial(fault, bool(i % 2)) for i, fault in enumerate(faults)]


def _refusals(calls: Sequence[Point], *, full: bool) -> list[Trial]:
    changing = [point for point in calls if point.changes]
    if full:
        pairs = [(point, name) for point in changing for name in ERRNOS]
        pairs += [(point, "EIO") for point in calls if not point.changes]
    else:
        pairs = list(zip(changing, cycle(ERRNOS), strict=False))
    return [Trial(Fault(point, f"error={name}"), polled=False) for point, name in pairs]


def _row(
    pool: ProcessPoolExecutor, scenario: Scenario, name: str, trials: list[Trial], scratch: str
) -> Row:
    started = time.monotonic()
    chunks = [trials[i : i + _CHUNK] for i in range(0, len(trials), _CHUNK)]
    done = pool.map(_tried, [scenario.name] * len(chunks), chunks, [scratch] * len(chunks))
    verdicts = [verdict for chunk in done for verdict in chunk]
    failures = [line for each in verdicts for line in (*each.stranded, *each.broken)]
    row = Row(
        layer=LAYER,
        scenario=f"{scenario.name}, {name}",
        store="file",
        points=len(trials),
        states=len({each.state for each in verdicts}),
        stranded=sum(bool(each.stranded) for each in verdicts),
        broken=sum(bool(each.broken) and not each.stranded for each in verdicts),
        rotated=sum(each.rotated for each in verdicts),
        reverted=sum(not each.rotated for each in verdicts),
        failures=tuple(f"{scenario.name}: {line}" for line in failures),
        seconds=time.monotonic() - started,
    )
    print(f"{row.layer}: {row.scenario}: {row.points} points, {row.seconds:.0f} s", file=sys.stderr)
    return row


def _tried(name: str, trials: Sequence[Trial], scratch: str) -> list[Verdict]:
    """In a process of the pool: each trial on a device of its own."""
    scenario = SCENARIOS[name]
    with tempfile.TemporaryDirectory(dir=scratch) as place, devices(Path(place), scenario) as make:
        return [_try(make(), scenario, trial, Path(place) / "log") for trial in trials]


def _try(world: World, scenario: Scenario, trial: Trial, log: Path) -> Verdict:
    verdict = Verdict(trial)
    key_before = world.live_pair()[1].read_bytes()
    directory = world.device.directory
    try:
        ran = disturbed(trial.fault, ROTATE, world.device.env, directory, log)
    except InjectionError as error:
        verdict.broken.append(f"{trial}: {error}")
        return verdict
    if trial.fault.what != KILL:
        verdict.hold(verdict.broken, "words", lambda: check_words(ran))
    verdict.hold(verdict.stranded, "boot", lambda: check_reachable_at_boot(world, scenario))
    verdict.hold(verdict.broken, "boot", lambda: check_kept(world, key_before))
    verdict.state = shape.digest(world)
    if trial.polled and not scenario.gateway_forgot:
        verdict.hold(verdict.stranded, "polled", world.check_reachable)
    _finish(world, scenario, verdict)
    return verdict


def _finish(world: World, scenario: Scenario, verdict: Verdict) -> None:
    def finished() -> None:
        code, said = scenario.finish(world)
        assert code == scenario.code, f"exit {code}: {said}"

    verdict.hold(verdict.broken, "next run", finished)
    if verdict.hold(verdict.stranded, "end", world.check_reachable):
        verdict.hold(verdict.broken, "end", lambda: check_end(world, scenario))
        verdict.rotated = world.live_pair()[1].name == "pkey.certs-1.pem"


def check_words(ran: Ran) -> None:
    """One plain line and perhaps what to do next; one of the documented exit codes."""
    lines = ran.err.splitlines()
    assert "Traceback" not in ran.err, lines[-1]
    assert ran.code in CODES, f"exit {ran.code}: {ran.err}"
    if ran.code == 0:
        assert not lines, ran.err
    else:
        assert lines[0].startswith("fioagent: "), ran.err
        assert [line for line in lines[1:] if not line.startswith("  ")] == [], ran.err
        assert len(lines) <= 2, ran.err
