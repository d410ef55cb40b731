"""Layer 4: one fault at every call of every port, and faults that stay for a week.

The run that the fault befalls has to end in a word and leave every promise kept.
Then the fault is gone, a day passes, and what runs by the timer has to bring the
rotation to its end. A definite no may end it with the old pair, truthfully told;
whatever may work later must not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.crash import canonical, disturbances, findings, look, promises, runs, scenarios
from tests.crash.disturbances import Disturbed, Fault
from tests.crash.findings import Found
from tests.crash.promises import BROKEN, Broken
from tests.crash.report import Row
from tests.crash.runs import Scenario
from tests.crash.simulated import Simulation, no_wrap
from tests.crash.workers import shared

LAYER: Final = "4 faults"
_PARTS: Final = 8  # of a scenario, each a task of its own
_DAY_S: Final = 25 * 3600  # longer than any wait that the agent decides on


@dataclass(frozen=True, slots=True)
class Part:
    """Every ``_PARTS``-th call of a scenario, beginning with the ``number``-th."""

    scenario: Scenario
    number: int


def run(*, full: bool, jobs: int) -> list[Row]:
    return [row(scenario, jobs=jobs) for scenario in scenarios.everything()]


def row(scenario: Scenario, *, jobs: int) -> Row:
    started = time.monotonic()
    parts = [Part(scenario, number) for number in range(_PARTS)]
    found = list(shared(examined, parts, jobs))
    return findings.row(LAYER, scenario.name, found, started, time.monotonic())


def examined(part: Part) -> Found:
    found = Found()
    start = part.scenario.start()
    for at, fault in list(_strikes(part.scenario, start))[part.number :: _PARTS]:
        for lasting in (1, 1 << 60) if fault.port == "clock" else (1,):
            _case(part.scenario, start.copy(), fault, at, lasting, found)
    return found


def _strikes(scenario: Scenario, start: Simulation) -> Iterator[tuple[int, Fault]]:
    """Every call of an undisturbed way to the end, with every fault that fits it."""
    undisturbed = Disturbed()
    runs.to_the_end(start.copy(), scenario, undisturbed.wrap)
    for at, (port, method) in enumerate(undisturbed.calls):
        for fault in disturbances.fitting(port, method):
            yield at, fault


def _case(
    scenario: Scenario, device: Simulation, fault: Fault, at: int, lasting: int, found: Found
) -> None:
    sota = device.disk.read(f"{device.storage}/sota.toml")
    disturbed = Disturbed(fault, at, lasting)
    try:
        broken = _driven(scenario, device, disturbed, found)
        # A gateway that will not have a report, by its own word, is not told.
        heard = not (fault.definite and "POST /events" in disturbed.struck)
        broken += runs.ended(device, scenario, sota, either=fault.definite, heard=heard)
    except Exception as error:  # noqa: BLE001  # any that is not for users is a bug, and told
        broken = [(BROKEN, f"it crashed: {error!r}")]
    if not disturbed.struck:
        raise AssertionError(f"call {at} of {scenario.name} was never made")
    struck = f"{fault.port} {fault.method} {disturbed.struck[0][:60]}"
    where = f"{scenario.name}, {struck} ({at}): {fault.name}"
    rotated = promises.has_rotated(device.disk, device.storage)
    found.case(where + (", lasting" if lasting > 1 else ""), broken, rotated=rotated)


def _driven(
    scenario: Scenario, device: Simulation, disturbed: Disturbed, found: Found
) -> list[Broken]:
    """Run after run: disturbed until the fault has struck, then one a day by the timer."""
    broken: list[Broken] = []
    for count in range(2 * runs.MAX_RUNS):
        if scenario.mend is not None and count >= runs.UNMENDED:
            scenario.mend(device.servers)
        over = runs.has_ended(device, scenario.last_id)
        if over and disturbed.struck:
            return broken + runs.checked_in(device)
        by_hand = not disturbed.struck or look.at(device.disk, device.storage).open is None
        act = runs.check_in if over or not by_hand else scenario.act
        before = len(disturbed.struck)
        runs.process(device, act, no_wrap if before else disturbed.wrap)
        if disturbed.struck and not before:
            found.states.add(canonical.digest(device))
            broken += promises.at_any_instant(
                device.disk, device.servers, device.storage, recovered=False
            )
        device.pass_time(_DAY_S if disturbed.struck else 0)
    return [*broken, (BROKEN, f"not at its end after {2 * runs.MAX_RUNS} runs")]
