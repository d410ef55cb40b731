"""When a rotation is due, when to try again, and when a clock cannot be believed."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from fioagent.model import CredentialRef, RotationId, Store
from fioagent.rotation.machine import Pause, Phase, Rotation
from fioagent.rotation.policy import clock_is_plausible, due_at, wait_until

_AT = datetime(2026, 11, 1, 12, 0, tzinfo=timezone.utc)
_DAY = timedelta(days=1)


def _rotation(pause: Pause | None) -> Rotation:
    pair = CredentialRef(Store.FILE, "k", "c")
    return Rotation(
        id=RotationId("r"),
        begun_at=_AT,
        est_url="https://h/est",
        old=pair,
        new=pair,
        phase=Phase.KEY_GENERATED,
        facts={},
        paused=pause,
    )


@pytest.mark.parametrize(
    ("share", "days"), [(0.5, 50), (0.25, 25), (1.0, 100), (0.66, 66), (0.001, 0.1)]
)
def test_a_rotation_is_due_after_a_share_of_the_life(share: float, days: float) -> None:
    due = due_at(_AT, _AT + 100 * _DAY, share)

    assert abs(due - (_AT + timedelta(days=days))) < timedelta(seconds=1)


def test_no_pause_is_no_reason_to_wait() -> None:
    assert wait_until(_rotation(None), _AT) is None


def test_a_pause_that_nobody_asked_for_is_no_reason_to_wait() -> None:
    pause = Pause(_AT, Phase.CERT_ISSUED, "timed out", None)

    assert wait_until(_rotation(pause), _AT) is None


@pytest.mark.parametrize("seconds", [1, 3600])
def test_a_peer_that_asks_for_time_gets_it(seconds: int) -> None:
    """Counted from the answer, not from when somebody looks."""
    pause = Pause(_AT, Phase.CERT_ISSUED, "busy", seconds)

    until = _AT + timedelta(seconds=seconds)
    assert until == wait_until(_rotation(pause), _AT)
    assert until == wait_until(_rotation(pause), until - timedelta(seconds=1))
    assert wait_until(_rotation(pause), until) is None


def test_a_pause_from_the_future_is_no_reason_to_wait() -> None:
    """A wrong clock wrote it; the right one must not wait for months."""
    pause = Pause(_AT + 200 * _DAY, Phase.CERT_ISSUED, "busy", 60)

    assert wait_until(_rotation(pause), _AT) is None


@pytest.mark.parametrize(
    ("now", "plausible"),
    [
        (datetime(1970, 1, 1, tzinfo=timezone.utc), False),
        (datetime(2025, 12, 31, 23, 59, 59, tzinfo=timezone.utc), False),
        (_AT - _DAY - timedelta(seconds=1), False),
        (_AT - _DAY, True),
        (_AT, True),
        (_AT + 9000 * _DAY, True),
    ],
    ids=["no battery", "before the program", "before the certificate", "a day", "now", "later"],
)
def test_a_clock_before_the_live_certificate_is_wrong(now: datetime, plausible: bool) -> None:
    """It was issued before it was installed; a day of grace for the server's clock."""
    assert plausible is clock_is_plausible(now, _AT)


def test_a_clock_before_the_program_is_wrong_whatever_the_certificate_says() -> None:
    """A certificate of a CA without a clock of its own proves nothing."""
    then = datetime(2020, 1, 1, tzinfo=timezone.utc)

    assert not clock_is_plausible(then + _DAY, then)
    assert clock_is_plausible(datetime(2026, 1, 1, tzinfo=timezone.utc), then)
