"""Layer 4: one fault at every call of every port.

The run that the fault befalls has to end in a word and leave every promise
kept. Then the fault is gone, a day passes, and what runs by the timer has to
bring the rotation to its end. A definite no may end it with the old pair,
truthfully told; whatever may work later must not. On the way of each case some
cuts are tried too: a fault, and then the power fails. ``weeks`` is the same
with faults that stay.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.crash import canonical, disturbances, findings, look, promises, runs, scenarios, weeks
from tests.crash.disturbances import Fault
from tests.crash.disturbing import FOR_EVER, Disturbed
from tests.crash.findings import Found
from tests.crash.promises import BROKEN, Broken
from tests.crash.recording import Cut, Recording
from tests.crash.report import Row
from tests.crash.runs import Scenario
from tests.crash.simulated import Simulation, no_wrap
from tests.crash.workers import shared

LAYER: Final = "4 faults"
DAY_S: Final = 25 * 3600  # longer than any wait that the agent decides on
_PARTS: Final = 8  # of a scenario, each a task of its own
_CUTS_QUICK: Final = 1 / 200  # of the cuts on the way of a case
_CUTS_FULL: Final = 1 / 10


@dataclass(frozen=True, slots=True)
class Part:
    """A share of the faults of a scenario: one task of ``_PARTS``.

    Attributes:
        number: which of them.
        every: so-manieth fault is taken at all.
        cuts: share of the cuts on the way, 0 to 1.
    """

    scenario: Scenario
    number: int
    every: int
    cuts: float


@dataclass(frozen=True, slots=True)
class Case:
    """A fault that befalls the ``at``-th call on the way to the end, and what comes after."""

    scenario: Scenario
    fault: Fault
    at: int
    lasting: int
    sota: bytes

    def is_heard(self, struck: str) -> bool:
        """A gateway that by its own word will not have a report is not told."""
        return not (self.fault.definite and "POST /events" in struck)

    def __str__(self) -> str:
        stays = ", from then on" if self.lasting > 1 else ""
        return f"{self.scenario.name}: {self.fault.name} at call {self.at}{stays}"


def run(*, full: bool, jobs: int, stop_early: bool = False) -> list[Row]:
    """Quick: every fault of the first rotation, a share of the others, few cuts beside them.

    Full: all of them, twenty times the cuts, and longer weeks.
    """
    cuts = _CUTS_FULL if full else _CUTS_QUICK
    made = (
        row(
            scenario,
            every=1 if full or number == 0 else 2,
            cuts=cuts,
            jobs=jobs,
            stop_early=stop_early,
        )
        for number, scenario in enumerate(scenarios.everything())
    )
    lasting = weeks.rows(full=full, jobs=jobs, stop_early=stop_early)
    return findings.rows(itertools.chain(made, lasting), stop_early=stop_early)


def row(scenario: Scenario, *, every: int, cuts: float, jobs: int, stop_early: bool = False) -> Row:
    parts = [Part(scenario, number, every, cuts) for number in range(_PARTS)]
    found = shared(examined, parts, jobs)
    return findings.row(LAYER, scenario.name, found, stop_early=stop_early, store=scenario.store)


def examined(part: Part) -> Found:
    draw = random.Random(f"{part.scenario.name} {part.number}")  # noqa: S311  # a sample, no secret
    found, start = Found(), part.scenario.start()
    for case in list(cases(part.scenario, start))[part.number * part.every :: _PARTS * part.every]:
        recording = Recording(start.copy())
        struck = disturb(case, recording, found)
        for number, cut in enumerate(recording.cuts):
            if draw.random() < part.cuts:
                _cut_too(case, struck, cut, f"{case}, {struck}; then cut {number}", found)
    return found


def _cut_too(case: Case, struck: str, cut: Cut, where: str, found: Found) -> None:
    """The power failed after the fault, or right before it."""
    device, definite = cut.device.copy(), case.fault.definite
    found.states.add(canonical.digest(device))
    broken = runs.after_a_cut(
        device, case.scenario, case.sota, either=definite, heard=case.is_heard(struck)
    )
    rotated = promises.has_rotated(device.disk, device.storage)
    found.case(f"{where} {cut.points[0]}", broken, rotated=rotated)


def cases(scenario: Scenario, start: Simulation) -> Iterator[Case]:
    """Every call of an undisturbed way to the end, with every fault that fits it."""
    sota = start.disk.read(f"{start.storage}/sota.toml")
    undisturbed = Disturbed()
    runs.to_the_end(start.copy(), scenario, undisturbed.wrap)
    for at, (port, method) in enumerate(undisturbed.calls):
        for fault in disturbances.fitting(port, method):
            for lasting in (1, FOR_EVER) if port == "clock" else (1,):
                yield Case(scenario, fault, at, lasting, sota)


def disturb(case: Case, recording: Recording, found: Found) -> str:
    """The case, from the start to the end; what was struck."""
    device = recording.device
    disturbed = Disturbed([case.fault], case.at, case.lasting)
    try:
        broken = _driven(case.scenario, recording, disturbed, found)
        broken += runs.ended(
            device,
            case.scenario,
            case.sota,
            either=case.fault.definite,
            heard=case.is_heard(disturbed.struck[0]),
        )
    except Exception as error:  # noqa: BLE001  # any that is not for users is a bug, and told
        broken = [(BROKEN, f"it crashed: {error!r}")]
    if not disturbed.struck:
        raise AssertionError(f"{case}: it was never made")
    rotated = promises.has_rotated(device.disk, device.storage)
    found.case(f"{case}, {disturbed.struck[0]}", broken, rotated=rotated)
    return disturbed.struck[0]


def _driven(
    scenario: Scenario, recording: Recording, disturbed: Disturbed, found: Found
) -> list[Broken]:
    """Run after run: disturbed until the fault has struck, then one a day by the timer."""
    device, broken = recording.device, list[Broken]()
    for count in range(2 * runs.MAX_RUNS):
        if scenario.mend is not None and count >= runs.UNMENDED:
            scenario.mend(device.servers)
        over, before = runs.has_ended(device, scenario.last_id), len(disturbed.struck)
        if over and before:
            return broken + runs.checked_in(device)
        is_open = look.at(device.disk, device.storage).open is not None
        by_timer = before and is_open and scenario.act is not runs.cancel
        act = runs.check_in if over or by_timer else scenario.act
        wrap = recording.wrap_in(disturbed.wrap) if not before else no_wrap
        runs.process(device, act, wrap)
        if disturbed.struck and not before:
            found.states.add(canonical.digest(device))
            broken += promises.at_any_instant(
                device.disk, device.servers, device.storage, recovered=False
            )
        device.pass_time(DAY_S if disturbed.struck else 0)
    return [*broken, (BROKEN, f"not at its end after {2 * runs.MAX_RUNS} runs")]
