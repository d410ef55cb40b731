"""What a layer of the crash proof has found, in one row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One scenario of one layer.

    Attributes:
        layer: "1 ports", "2 kills", "3 disk states" or "4 faults".
        scenario: what was under way, "first rotation" for example.
        store: where the keys are: "file" or "token".
        points: places at which it was cut, or a fault was put in.
        states: distinct states of disk and servers that were recovered from.
        stranded: devices that could not reach their gateway afterwards; must be 0.
        broken: other promises broken; must be 0.
        rotated: ended with the new pair live.
        reverted: ended with the old pair live, and told so.
        failures: one line for each of ``stranded`` and ``broken``: where, and what was found.
        seconds: wall clock.
    """

    layer: str
    scenario: str
    store: str
    points: int
    states: int
    stranded: int
    broken: int
    rotated: int
    reverted: int
    failures: tuple[str, ...]
    seconds: float
