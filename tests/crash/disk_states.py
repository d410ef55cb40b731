"""Layer 3 of the crash proof: every disk that a power cut may leave of a rotation.

Each distinct state, of disk and servers together, is booted from: ``fioagent
recover``, then the rotation to its end, then every promise. In the quick run a
share of these boots is cut in turn, in the full run all of them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterator
from typing import Final

from tests.crash.crew import Depth, workers
from tests.crash.cuts import Scenario, Tally
from tests.crash.disk_scenarios import MORE, SCENARIOS
from tests.crash.report import Row

LAYER = "3 disk states"
_QUICK: Final = Depth(second=24)
_QUICK_OF: Final = {"202, then issued": Depth(second=6)}  # one poll is much like the next
_FULL: Final = Depth(second=None, third=2)
_TOLD_EVERY_S = 10.0


def run(
    *, full: bool, jobs: int, stop_early: bool = False, done: Collection[str] = ()
) -> Iterator[Row]:
    """A row for each scenario that is not ``done``; with ``stop_early`` until the first failure."""
    wanted = (*SCENARIOS, *MORE) if full else SCENARIOS
    with workers(jobs) as crew:
        for scenario in (each for each in wanted if each.name not in done):
            started = time.monotonic()
            told, known, tally = started, 0, Tally()
            depth = _FULL if full else _QUICK_OF.get(scenario.name, _QUICK)
            for tally in crew.cut(scenario, depth):  # noqa: B007  # the last one counts
                for kind, line in tally.failures[known:]:
                    print(f"{LAYER}: {scenario.name}: {kind}: {line}", file=sys.stderr)
                known = len(tally.failures)
                if time.monotonic() - told >= _TOLD_EVERY_S:
                    told = time.monotonic()
                    _tell(scenario, tally)
                if stop_early and tally.failures:
                    break
            _tell(scenario, tally)
            yield _row(scenario, tally, time.monotonic() - started)
            if stop_early and tally.failures:
                break


def _tell(scenario: Scenario, tally: Tally) -> None:
    states, failures = len(tally.booted), len(tally.failures)
    said = f"{LAYER}: {scenario.name}: {states} states, {failures} failures"
    bounded = f", {tally.bounded} points with a share of their states" if tally.bounded else ""
    print(said + bounded, file=sys.stderr)


def _row(scenario: Scenario, tally: Tally, seconds: float) -> Row:
    kinds = [kind for kind, _ in tally.failures]
    return Row(
        layer=LAYER,
        scenario=scenario.name,
        store="file",
        points=tally.points,
        states=len(tally.booted),
        stranded=kinds.count("stranded"),
        broken=kinds.count("broken"),
        rotated=tally.ended("rotated"),
        reverted=tally.ended("reverted"),
        failures=tuple(f"{scenario.name}: {kind}: {line}" for kind, line in tally.failures),
        seconds=seconds,
    )
