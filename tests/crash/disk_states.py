"""Layer 3 of the crash proof: every disk that a power cut may leave of a rotation.

Each distinct state, of disk and servers together, is booted from: ``fioagent
recover``, then the rotation to its end, then every promise. In the quick run a
share of these boots is cut in turn, in the full run all of them.
"""

from __future__ import annotations

import sys
import time
from typing import Final

from tests.crash.cuts import Depth, Scenario, Tally, workers
from tests.crash.disk_scenarios import SCENARIOS
from tests.crash.report import Row

LAYER = "3 disk states"
_QUICK: Final = Depth(second=10)
_FULL: Final = Depth(second=None)
_TOLD_EVERY_S = 10.0


def run(*, full: bool, jobs: int) -> list[Row]:
    """A row for each scenario."""
    with workers(jobs) as crew:
        rows = []
        for scenario in SCENARIOS:
            started, told = time.monotonic(), _Progress(scenario)
            tally = crew.cut(scenario, _FULL if full else _QUICK, told)
            rows.append(_row(scenario, tally, time.monotonic() - started))
        return rows


class _Progress:
    """A line to stderr every now and then."""

    def __init__(self, scenario: Scenario) -> None:
        self._name = scenario.name
        self._next = time.monotonic() + _TOLD_EVERY_S

    def __call__(self, tally: Tally) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _TOLD_EVERY_S
            states, failures = len(tally.digests), len(tally.failures)
            print(f"{LAYER}: {self._name}: {states} states, {failures} failures", file=sys.stderr)


def _row(scenario: Scenario, tally: Tally, seconds: float) -> Row:
    kinds = [kind for kind, _ in tally.failures]
    return Row(
        layer=LAYER,
        scenario=scenario.name,
        store="file",
        points=tally.points,
        states=len(tally.digests),
        stranded=kinds.count("stranded"),
        broken=kinds.count("broken"),
        rotated=tally.ended.get("rotated", 0),
        reverted=tally.ended.get("reverted", 0),
        failures=tuple(f"{scenario.name}: {kind}: {line}" for kind, line in tally.failures),
        seconds=seconds,
    )
