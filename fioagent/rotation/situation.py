"""What the decision on a rotation depends on, and what it is. Values alone.

``timing.py`` makes the one of the other.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fioagent.config.trigger import Trigger
from fioagent.model import RotationId
from fioagent.rotation.machine import Phase, Rotation


class Why(str, enum.Enum):
    """What asks for a rotation."""

    OPEN = "open"  # one is under way
    PROMISED = "promised"  # the gateway, or fioconfig's state, waits for this one
    TRIGGER = "trigger"
    SCHEDULE = "schedule"
    CLOCK = "clock"  # nothing does before the clock can be believed


@dataclass(frozen=True, slots=True)
class Rules:
    """Of the settings, what timing depends on.

    Attributes:
        due_at: share of the certificate's life after which it is due, 0 to 1.
        due_before_expiry: instead of it, so long before the end; None: ``due_at`` counts.
        spread: over which a fleet of equal certificates spreads, after that.
        window: for triggers that name none.
    """

    due_at: float
    due_before_expiry: timedelta | None
    spread: timedelta
    window: timedelta


@dataclass(frozen=True, slots=True)
class Ended:
    """A rotation that is over.

    Attributes:
        id: of it.
        phase: its end.
        at: when, by the device's clock.
        trigger: digest of the file that asked for it; empty where none did.
    """

    id: RotationId
    phase: Phase
    at: datetime
    trigger: str


@dataclass(frozen=True, slots=True)
class Setback:
    """Attempts at a rotation that could not even begin.

    Attributes:
        cause: what asked for it; see ``Decision.cause``.
        at: of the latest, device's clock.
        failures: how many in a row.
        retry_after_s: as a peer asked in the latest; None where none did.
        reason: of the latest.
        person: waiting alone will not help.
        hint: what to do next; None where nothing was said.
    """

    cause: str
    at: datetime
    failures: int
    retry_after_s: int | None
    reason: str
    person: bool = False
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a decision depends on.

    Attributes:
        now: device's clock.
        plausible: whether that clock can be believed.
        device: a name that is this device's alone, and stays.
        not_before: of the live certificate.
        not_after: the same.
        open: the rotation under way.
        replaceable: another may begin in its place, rather than after it.
        promised: id and EST server of one that somebody waits for.
        trigger: the operator's file; None where there is none, or where it is over.
        seen_at: when this device saw that file first.
        ended: what is over, oldest first.
        setback: the latest attempts, if they did not begin.
    """

    now: datetime
    plausible: bool
    device: str
    not_before: datetime
    not_after: datetime
    open: Rotation | None = None
    replaceable: bool = False
    promised: tuple[RotationId, str] | None = None
    trigger: Trigger | None = None
    seen_at: datetime | None = None
    ended: Sequence[Ended] = ()
    setback: Setback | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What is wanted.

    Attributes:
        wanted: a rotation, or going on with one, now.
        next_at: when to look again; None where now, or where only events can tell.
        why: what asks for it.
        said: for a person.
        id: None: of the open rotation, or a fresh one.
        est_url: empty where the settings have to know.
        trigger: digest of the file that asks; empty where none does.
        held_up: it would be wanted, but for an earlier failure or the clock.
        patience: how long a try at an EST server may be put off, so that a fleet
            does not come back in a wave; None for a rotation that is in a hurry.
    """

    wanted: bool
    next_at: datetime | None
    why: Why
    said: str
    id: RotationId | None = None
    est_url: str = ""
    trigger: str = ""
    held_up: bool = False
    patience: timedelta | None = None

    @property
    def cause(self) -> str:
        """What asks, so that a setback of one does not hold up another."""
        return self.trigger or self.why.value

    def as_json(self) -> dict[str, object]:
        """For machines; ``next_at`` is ISO 8601 in UTC, or null."""
        return {
            "wanted": self.wanted,
            "next_at": None if self.next_at is None else self.next_at.isoformat(),
            "why": self.why.value,
            "id": self.id,
            "said": self.said,
        }
