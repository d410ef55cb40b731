"""A mutant: the agent broken on purpose, in one place, for one promise.

``text`` has to occur exactly once in ``file``; a unit test holds that, so a change
of the agent that moves one is told at once. ``found_by`` says which check has to
fail: the number of a layer, or what pytest runs where the promise is none that a
crash can show.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """One way to break the agent.

    Attributes:
        name: short, for the table and the command line.
        promise: what does not hold any more.
        file: below ``fioagent/``.
        text: what is replaced; it occurs once.
        instead: by what.
        found_by: layers ("3") or arguments of pytest, the likeliest first.
    """

    name: str
    promise: str
    file: str
    text: str
    instead: str
    found_by: tuple[str, ...]
