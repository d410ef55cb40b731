"""What a part of a layer has shown, added up to a row of the table."""

from __future__ import annotations

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


def row(layer: str, scenario: str, parts: Iterable[Found], started: float, now: float) -> Row:
    """All parts of one scenario; times by the monotonic clock."""
    found = Found()
    for part in parts:
        found.add(part)
    stranded = sum(kind == STRANDED for kind, _ in found.failures)
    return Row(
        layer=layer,
        scenario=scenario,
        store="file",
        points=found.points,
        states=len(found.states),
        stranded=stranded,
        broken=len(found.failures) - stranded,
        rotated=found.rotated,
        reverted=found.reverted,
        failures=tuple(sorted(text for _, text in found.failures)),
        seconds=now - started,
    )
