"""When to rotate, and when to try again. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from fioagent.rotation.machine import Rotation

# No certificate of ours is read by a device older than the program itself.
EARLIEST_PLAUSIBLE_YEAR = 2026


def due_at(not_before: datetime, not_after: datetime, share: float) -> datetime:
    """The moment when ``share`` of the certificate's life is over."""
    return not_before + (not_after - not_before) * share


def wait_until(rotation: Rotation, now: datetime) -> datetime | None:
    """Not before this, as the peer asked; None where nobody asked, or the time is over.

    A pause from the future was written by a wrong clock: no reason to wait.
    """
    pause = rotation.paused
    if pause is None or pause.retry_after_s is None or now < pause.at:
        return None
    until = pause.at + timedelta(seconds=pause.retry_after_s)
    return until if now < until else None


def clock_is_plausible(now: datetime, certificate_not_before: datetime) -> bool:
    """Whether validity can be judged: boards without a battery boot in 1970.

    The live certificate gives a floor: it was issued before it was installed.
    A day of grace, because a registration server's clock may have been ahead.
    """
    floor = certificate_not_before - timedelta(days=1)
    return now.year >= EARLIEST_PLAUSIBLE_YEAR and now >= floor
