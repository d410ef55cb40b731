"""Layer 1: the power fails before, after and in the middle of every effect, once and twice.

Over the simulation. After each cut what a boot does is run, offline; the
promises are checked before it, after it, and once the rotation has ended. The
same with another program that uses the live pair in between, and with a process
that was killed and no boot. Then all of it again with a second cut, anywhere in
what runs after the first.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from tests.crash import canonical, findings, promises, runs, scenarios
from tests.crash.findings import Found
from tests.crash.recording import Cut, Recording
from tests.crash.report import Row
from tests.crash.runs import After, Scenario
from tests.crash.workers import shared

LAYER: Final = "1 ports"
_QUICK_SHARE: Final = 1 / 24  # of the pairs of cuts
_PARTS: Final = 8  # of a scenario, each a task of its own


@dataclass(frozen=True, slots=True)
class Part:
    """Every ``_PARTS``-th state of a scenario, beginning with the ``number``-th.

    Attributes:
        scenario: what is cut.
        after: what follows each cut.
        number: of the part.
        share: of the pairs of cuts, 0 to 1.
    """

    scenario: Scenario
    after: After
    number: int
    share: float


def run(*, full: bool, jobs: int, stop_early: bool = False) -> list[Row]:
    """Quick: all single cuts, and a share of the pairs that is the same each time."""
    share = 1.0 if full else _QUICK_SHARE
    made = (
        row(scenario, share=share, jobs=jobs, stop_early=stop_early)
        for scenario in scenarios.everything()
    )
    return findings.rows(made, stop_early=stop_early)


def row(scenario: Scenario, *, share: float, jobs: int, stop_early: bool = False) -> Row:
    parts = [Part(scenario, after, number, share) for number in range(_PARTS) for after in After]
    found = shared(examined, parts, jobs)
    return findings.row(LAYER, scenario.name, found, stop_early=stop_early, store=scenario.store)


def examined(part: Part) -> Found:
    """All cuts of a part, and its share of second cuts."""
    draw = random.Random(f"{part.scenario.name} {part.after} {part.number}")  # noqa: S311  # a sample, no secret
    found, seen = Found(), set[str]()
    device = part.scenario.start()
    sota = device.disk.read(f"{device.storage}/sota.toml")
    first = Recording(device)
    broken = runs.to_the_end(device, part.scenario, first.wrap)
    broken += runs.ended(device, part.scenario, sota)
    if part.number == 0:
        found.case(f"{part.scenario.name}, uncut", broken, rotated=part.scenario.rotates)
    for number, cut in list(enumerate(first.cuts))[part.number :: _PARTS]:
        seen.add(_left_by(cut))
        where = f"cut {number} {cut.points[0]}"
        for again, second in enumerate(_case(part, cut, sota, found, where)):
            if draw.random() < part.share and _left_by(second) not in seen:
                seen.add(_left_by(second))
                _case(part, second, sota, found, f"{where}, cut {again} {second.points[0]}")
    return found


def _left_by(cut: Cut) -> str:
    """What follows from a cut depends on what is left, and on nothing else."""
    return cut.device.disk.digest() + cut.device.servers.digest()


def _case(part: Part, cut: Cut, sota: bytes, found: Found, where: str) -> list[Cut]:
    """One cut, the boot and the way to the end; the cuts on that way."""
    recording = Recording(cut.device.copy())
    found.states.add(canonical.digest(cut.device))
    broken = runs.after_a_cut(
        recording.device, part.scenario, sota, recording.wrap, after=part.after
    )
    rotated = promises.has_rotated(recording.device.disk, recording.device.storage)
    where = f"{part.scenario.name} ({part.after.value}), {where}"
    found.case(where, broken, rotated=rotated, points=len(cut.points))
    return recording.cuts
