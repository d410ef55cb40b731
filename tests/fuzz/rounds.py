"""Rounds of inputs, made by hypothesis, which also makes what it finds as small as it can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hypothesis import HealthCheck, given, settings

from tests.fuzz import inputs
from tests.fuzz.watch import Target, check

_FIXED: Final = 150
_RANDOM: Final = 1000


def fixed_round(target: Target, seeds: Sequence[bytes]) -> None:
    """The same inputs each time, so that the suite says the same of the same code."""
    _round(target, seeds, count=_FIXED, derandomize=True)


def random_round(target: Target, seeds: Sequence[bytes]) -> int:
    """Other inputs each time; how many."""
    _round(target, seeds, count=_RANDOM, derandomize=False)
    return _RANDOM


def _round(target: Target, seeds: Sequence[bytes], *, count: int, derandomize: bool) -> None:
    @settings(
        max_examples=count,
        derandomize=derandomize,
        database=None,
        deadline=None,  # watch.py has one, in CPU time
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs.of(seeds))
    def one(data: bytes) -> None:
        check(target, data)

    one()
