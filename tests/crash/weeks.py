"""Layer 4, continued: faults that come at any moment of a rotation and stay for a week.

The agent runs by its timer all the while. It may wait, but it must neither lose
anything nor fill the disk with its troubles; and when the fault is gone, the
rotation comes to its end as if nothing had been.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tests.crash import canonical, disturbances, findings, look, promises, runs, scenarios
from tests.crash.disturbances import Fault
from tests.crash.disturbing import FOR_EVER, Disturbed
from tests.crash.findings import Found
from tests.crash.promises import BROKEN, Broken
from tests.crash.report import Row
from tests.crash.runs import Scenario
from tests.crash.simulated import Simulation, Wrap, no_wrap
from tests.crash.workers import shared

LAYER: Final = "4 faults"
_WEEK_S: Final = 7 * 24 * 3600
_SCENARIOS: Final = ("first rotation", "reverted: 502 at first use", "superseded after the lock")
_RUNS_QUICK: Final = 28
_RUNS_FULL: Final = 200
_EACH_QUICK: Final = 5  # of the moments at which a fault may come
_LATER: Final = 10  # runs, a day apart, in which all has to be over
_MOST_BYTES: Final = 16 * 1024
_MOST_EVENTS: Final = 40
_CHANGES: Final = {"append", "replace", "remove", "rename", "link", "request", "restart"}


@dataclass(frozen=True, slots=True)
class Week:
    """Faults that befall all calls from the ``at``-th on, for so many runs of the timer."""

    scenario: Scenario
    name: str
    faults: Sequence[Fault]
    at: int
    runs: int

    @property
    def definite(self) -> bool:
        return any(fault.definite for fault in self.faults)


def rows(*, full: bool, jobs: int, stop_early: bool) -> Iterator[Row]:
    """Quick: one in five moments, and fewer runs a week."""
    count, each = (_RUNS_FULL, 1) if full else (_RUNS_QUICK, _EACH_QUICK)
    for scenario in scenarios.everything():
        if scenario.name in _SCENARIOS:
            yield row(scenario, count=count, each=each, jobs=jobs, stop_early=stop_early)


def row(scenario: Scenario, *, count: int, each: int, jobs: int, stop_early: bool = False) -> Row:
    found = shared(examined, weeks_of(scenario, count, each), jobs)
    name = f"{scenario.name}, a week"
    return findings.row(LAYER, name, found, stop_early=stop_early)


def weeks_of(scenario: Scenario, count: int, each: int) -> Iterator[Week]:
    """Every lasting fault, from every effect of an undisturbed way to the end on."""
    undisturbed = Disturbed()
    runs.to_the_end(scenario.start(), scenario, undisturbed.wrap)
    moments = [at for at, (_, method) in enumerate(undisturbed.calls) if method in _CHANGES]
    for number, (name, faults) in enumerate(disturbances.lasting().items()):
        for at in moments[number % each :: each]:
            yield Week(scenario, name, faults, at, count)


def examined(week: Week) -> Found:
    found, device = Found(), week.scenario.start()
    sota = device.disk.read(f"{device.storage}/sota.toml")
    try:
        broken = _through(week, device)
        found.states.add(canonical.digest(device))
        broken += _afterwards(week, device)
        broken += runs.ended(
            device, week.scenario, sota, either=week.definite, heard="gateway: 404" != week.name
        )
    except Exception as error:  # noqa: BLE001  # any that is not for users is a bug, and told
        broken = [(BROKEN, f"it crashed: {error!r}")]
    rotated = promises.has_rotated(device.disk, device.storage)
    found.case(
        f"{week.scenario.name}: a week of {week.name} from {week.at}", broken, rotated=rotated
    )
    return found


def _through(week: Week, device: Simulation) -> list[Broken]:
    disturbed = Disturbed(week.faults, week.at, FOR_EVER)
    broken: list[Broken] = []
    for _ in range(week.runs):
        _run(week.scenario, device, disturbed.wrap)
        device.pass_time(_WEEK_S // week.runs)
        broken += promises.at_any_instant(
            device.disk, device.servers, device.storage, recovered=False
        )
    found = look.at(device.disk, device.storage)
    journals = {name: len(text) for name, text in found.files.items() if ".journal" in name}
    if sum(journals.values()) > _MOST_BYTES:
        broken.append((BROKEN, f"the journals have grown: {journals}"))
    return broken


def _afterwards(week: Week, device: Simulation) -> list[Broken]:
    """The fault is gone, and the operator has done what there was to be done."""
    if week.scenario.mend is not None:
        week.scenario.mend(device.servers)
    for _ in range(_LATER):
        device.pass_time(25 * 3600)
        if runs.has_ended(device, week.scenario.last_id):
            break
        _run(week.scenario, device)
    else:
        return [(BROKEN, f"not at its end {_LATER} days later")]
    broken = runs.checked_in(device)
    if len(device.servers.events) > _MOST_EVENTS:
        broken.append((BROKEN, f"{len(device.servers.events)} events were sent"))
    return broken


def _run(scenario: Scenario, device: Simulation, wrap: Wrap = no_wrap) -> None:
    """By the timer where a rotation is open or over, else by hand again."""
    found = look.at(device.disk, device.storage)
    by_timer = found.open is not None or runs.has_ended(device, scenario.last_id)
    runs.process(device, runs.check_in if by_timer else scenario.act, wrap)
