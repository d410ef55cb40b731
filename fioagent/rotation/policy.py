"""When to rotate, and when to try again. Pure."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from types import MappingProxyType
from typing import Final

from fioagent.rotation.machine import Phase, Rotation

# No device runs this program before it was written.
RELEASED: Final = datetime(2026, 11, 1, tzinfo=timezone.utc)
_DAY: Final = timedelta(days=1)


class Peer(enum.Enum):
    """Whom an attempt depends on."""

    KEYS = enum.auto()  # the key store; a token may be locked or busy
    EST = enum.auto()
    GATEWAY = enum.auto()
    DEVICE = enum.auto()  # its own disk and services


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that double from ``first`` to ``cap``, each shortened by up to a half at random.

    A fleet that was refused in the same minute does not come back in the same minute.
    """

    first: timedelta
    cap: timedelta

    def after(self, failures: int, draw: float) -> timedelta:
        """How long to wait after so many failures (1 at least); ``draw`` is from 0 to 1."""
        doublings = min(failures - 1, 32)
        return min(self.first * (1 << doublings), self.cap) * (1 - draw / 2)


# EST servers sign, and people may have to approve: slow. A gateway has the device's
# config writes locked until we come back: quick. A token counts wrong moves: careful.
BACKOFF: Final[Mapping[Peer, Backoff]] = MappingProxyType(
    {
        Peer.KEYS: Backoff(timedelta(seconds=30), timedelta(hours=1)),
        Peer.EST: Backoff(timedelta(minutes=1), timedelta(hours=6)),
        Peer.GATEWAY: Backoff(timedelta(seconds=15), timedelta(hours=1)),
        Peer.DEVICE: Backoff(timedelta(minutes=1), timedelta(hours=1)),
    }
)
DEPENDS_ON: Final[Mapping[Phase, Peer]] = MappingProxyType(
    {
        Phase.KEY_GENERATED: Peer.KEYS,
        Phase.CERT_ISSUED: Peer.EST,
        Phase.LOCKED: Peer.GATEWAY,
        Phase.CONFIG_STAGED: Peer.DEVICE,
        Phase.DEVICE_CONFIG_UPDATED: Peer.GATEWAY,
        Phase.COMMITTED: Peer.DEVICE,
        Phase.CONFIRMED: Peer.GATEWAY,
        Phase.SERVICES_RESTARTED: Peer.DEVICE,
        Phase.RETIRED: Peer.GATEWAY,
        Phase.COMPLETED: Peer.DEVICE,
        Phase.ABANDONED: Peer.GATEWAY,  # the way back
    }
)
# A run that dies without a word may take the device down with it. A power cut is
# one too, so a few are free.
FREE_SILENT_RUNS: Final = 3
_QUICK: Final = 1  # failures of a patient rotation that a line of a moment explains
_SHORTEST_CAP: Final = timedelta(minutes=10)
_MOST_PATIENT: Final = timedelta(days=4)
AFTER_SILENCE: Final = Backoff(timedelta(minutes=2), timedelta(days=1))
# A CA that has refused is not asked for another certificate at every check-in.
AFTER_REFUSAL: Final = Backoff(timedelta(hours=1), timedelta(days=2))
ENDING: Final = 0.9  # share of a certificate's life after which it is ending
LONGEST_ASKED_WAIT_S: Final = 86_400  # a Retry-After of a year is a mistake of the server
# People may have to approve, and RFC 7030 section 4.2.3 has us wait at least as long.
LONGEST_ACCEPTED_WAIT_S: Final = 7 * 86_400


def due_at(not_before: datetime, not_after: datetime, share: float) -> datetime:
    """The moment when ``share`` of the certificate's life is over."""
    return not_before + (not_after - not_before) * share


def is_ending(not_before: datetime, not_after: datetime, now: datetime) -> bool:
    """Whether so little validity is left that nothing but the renewal counts any more."""
    return now >= due_at(not_before, not_after, ENDING)


def next_try(rotation: Rotation) -> datetime | None:
    """Not before this, by the device's clock; None where nothing speaks against at once."""
    failed_at, wait = _latest_failure(rotation)
    return None if failed_at is None else failed_at + wait


def wait_until(rotation: Rotation, now: datetime) -> datetime | None:
    """``next_try`` where it is still to come; None where there is nothing to wait for.

    A failure from the future was written by a wrong clock: no reason to wait.
    """
    failed_at, wait = _latest_failure(rotation)
    if failed_at is None or not failed_at <= now < failed_at + wait:
        return None
    return failed_at + wait


def reason_to_wait(rotation: Rotation) -> str:
    """In words; of a rotation that waits."""
    if rotation.silent_runs > FREE_SILENT_RUNS or rotation.paused is None:
        return f"the last {rotation.silent_runs} runs ended without a word"
    return rotation.paused.reason


def _latest_failure(rotation: Rotation) -> tuple[datetime | None, timedelta]:
    """When, and how long to wait from then."""
    silent = rotation.silent_runs - FREE_SILENT_RUNS
    if silent > 0 and rotation.ran_at is not None:
        wait = AFTER_SILENCE.after(silent, _draw(rotation))
        return rotation.ran_at, near_expiry(wait, _left(rotation, rotation.ran_at))
    pause = rotation.paused
    if pause is None:
        return None, timedelta()
    left, draw = _left(rotation, pause.at), _draw(rotation)
    # A server that has accepted the request expects us when it says.
    patience = None if pause.accepted else _patience_of(rotation)
    longest = LONGEST_ACCEPTED_WAIT_S if pause.accepted else LONGEST_ASKED_WAIT_S
    asked = _asked_wait(pause.retry_after_s, left, draw, longest)
    own = _own_wait(DEPENDS_ON[pause.phase], rotation.failures, left, patience, asked, draw)
    return pause.at, max(asked, own)


def _own_wait(  # noqa: PLR0917  # one value for each thing that it depends on
    peer: Peer,
    failures: int,
    left: timedelta | None,
    patience: timedelta | None,
    asked: timedelta,
    draw: float,
) -> timedelta:
    """As long as it may be, and never so long that a certificate runs out meanwhile.

    With patience: once soon, because a line may be down for a moment, then evenly over
    all of it. So after an outage the fleet comes back as it would have come without:
    each further quick try would double the load of the first minutes.
    """
    backoff = BACKOFF[peer]
    quick = failures <= _QUICK and not asked
    if patience is None or peer is not Peer.EST or quick:
        return Backoff(backoff.first, near_expiry(backoff.cap, left)).after(failures, draw)
    return near_expiry(patience, left) * max(draw, 0.02)


def _asked_wait(
    seconds: int | None, left: timedelta | None, draw: float, longest_s: int = LONGEST_ASKED_WAIT_S
) -> timedelta:
    """At least what a peer asked for, and by chance up to a half more: it asked all of them."""
    asked = timedelta(seconds=min(seconds or 0, longest_s)) * (1 + draw / 2)
    if left is None or left <= timedelta():
        return asked
    # Sooner than it likes, but a certificate that has expired may be good for nothing.
    return min(asked, max(left / 2, _SHORTEST_CAP))


def near_expiry(longest: timedelta, left: timedelta | None) -> timedelta:
    """The longest wait with so much validity left: ever shorter towards the end of it.

    What has expired already is tried ever more rarely again. None: it is not known.
    """
    if left is None:
        return longest
    return min(longest, max(abs(left) / 8, _SHORTEST_CAP))


def patience(window: timedelta) -> timedelta | None:
    """How long a try may be put off of a rotation that had so long a window to begin in.

    With it the devices that an outage has held up come back over as long a time as
    they would have taken without it, not in the hour after it. None: they are in a hurry.
    """
    if not window:
        return None
    return max(BACKOFF[Peer.EST].cap, min(window * 2, _MOST_PATIENT))


def wait_to_begin(
    failures: int,
    retry_after_s: int | None,
    *,
    left: timedelta,
    patience: timedelta | None,
    draw: float,
) -> timedelta:
    """After so many attempts that could not begin: the gateway was asked, or this device is ill."""
    asked = _asked_wait(retry_after_s, left, draw)
    return max(asked, _own_wait(Peer.EST, failures, left, patience, asked, draw))


def wait_after_refusals(
    refused_at: Sequence[datetime], not_after: datetime, draw: float
) -> tuple[datetime, datetime] | None:
    """From when to when: rotations by schedule that were refused, one after the other.

    None where none was. A refusal ends a rotation, so the next is a new one.
    """
    if not refused_at:
        return None
    latest = refused_at[-1]
    longest = near_expiry(AFTER_REFUSAL.cap, not_after - latest)
    wait = Backoff(min(AFTER_REFUSAL.first, longest), longest).after(len(refused_at), draw)
    return latest, latest + wait


def _left(rotation: Rotation, at: datetime) -> timedelta | None:
    """Validity of the certificate that is renewed; None where its journal does not tell."""
    not_after = rotation.facts[Phase.BEGUN].get("old_not_after")
    return None if not_after is None else datetime.fromisoformat(str(not_after)) - at


def _patience_of(rotation: Rotation) -> timedelta | None:
    seconds = rotation.facts[Phase.BEGUN].get("patience_s")
    return None if seconds is None else timedelta(seconds=int(seconds))


def _draw(rotation: Rotation) -> float:
    """From 0 to 1: another for each device and attempt, the same whenever it is asked."""
    seed = rotation.facts[Phase.BEGUN].get("event_seed", rotation.id)
    count = f"{seed} {rotation.failures} {rotation.silent_runs}"
    return int.from_bytes(hashlib.sha256(count.encode()).digest()[:4], "big") / 2**32


def too_many(requested_at: Iterable[datetime], now: datetime, limit: int) -> bool:
    """Whether ``limit`` certificates were requested within a day, by whatever clock."""
    return sum(abs(now - at) < _DAY for at in requested_at) >= limit


def clock_is_plausible(now: datetime, *floors: datetime | None) -> bool:
    """Whether validity can be judged: boards without a battery boot in 1970.

    Each certificate that a server has issued is a floor: it was issued before it
    was seen. A day of grace, because that server's clock may have been ahead.
    """
    known = [floor - _DAY for floor in floors if floor is not None]
    return now >= max([RELEASED - _DAY, *known])
