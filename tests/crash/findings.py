"""What a part of a layer has shown, added up to a row of the table."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.crash.promises import STRANDED, Broken
from tests.crash.report import Row


@dataclass(slots=True)
class Found:
    """Counts of a number of cases.

    Attributes:
        points: places at which a case was cut or disturbed.
        states: canonical digests of what was recovered from.
        failures: what was broken, one for each case and kind.
        rotated: cases that ended with the new pair live.
        reverted: cases that ended with the old one.
    """

    points: int = 0
    states: set[str] = field(default_factory=set)
    failures: list[Broken] = field(default_factory=list)
    rotated: int = 0
    reverted: int = 0

    def case(self, where: str, broken: Sequence[Broken], *, rotated: bool, points: int = 1) -> None:
        """One more, which stands for so many ``points`` with the same outcome."""
        self.points += points
        self.rotated += points * rotated
        self.reverted += points * (not rotated)
        for kind in dict.fromkeys(kind for kind, _ in broken):
            texts = dict.fromkeys(text for each, text in broken if each == kind)
            self.failures.append((kind, f"{where}: {'; '.join(texts)}"))

    def add(self, other: Found) -> None:
        self.points += other.points
        self.states |= other.states
        self.failures += other.failures
        self.rotated += other.rotated
        self.reverted += other.reverted


def row(
    layer: str,
    scenario: str,
    parts: Iterable[Found],
    *,
    stop_early: bool,
    store: str = "file",
) -> Row:
    """All parts of one scenario; with ``stop_early`` until the first failure. Told on stderr."""
    started, found = time.monotonic(), Found()
    for part in parts:
        found.add(part)
        if stop_early and found.failures:
            break
    if not found.points:
        raise AssertionError(f"{scenario}: nothing was tried")
    stranded = sum(kind == STRANDED for kind, _ in found.failures)
    made = Row(
        layer=layer,
        scenario=scenario,
        store=store,
        points=found.points,
        states=len(found.states),
        stranded=stranded,
        broken=len(found.failures) - stranded,
        rotated=found.rotated,
        reverted=found.reverted,
        failures=tuple(sorted(text for _, text in found.failures)),
        seconds=time.monotonic() - started,
    )
    print(f"{layer}: {scenario}: {made.points} points, {made.seconds:.0f} s", file=sys.stderr)
    return made


def rows(made: Iterable[Row], *, stop_early: bool) -> list[Row]:
    """All of them; with ``stop_early`` until the first that has a failure."""
    found: list[Row] = []
    for each in made:
        found.append(each)
        if stop_early and each.failures:
            break
    return found
