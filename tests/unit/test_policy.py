"""When a rotation is due, when to try again, and when a clock cannot be believed."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from fioagent.model import CredentialRef, RotationId, Store
from fioagent.rotation.machine import TRANSITIONS, Pause, Phase, Rotation
from fioagent.rotation.policy import (
    AFTER_SILENCE,
    BACKOFF,
    DEPENDS_ON,
    FREE_SILENT_RUNS,
    RELEASED,
    Peer,
    clock_is_plausible,
    due_at,
    next_try,
    too_many,
    wait_after_refusals,
    wait_until,
)

_AT = datetime(2026, 11, 1, 12, 0, tzinfo=timezone.utc)
_DAY = timedelta(days=1)


def _rotation() -> Rotation:
    pair = CredentialRef(Store.FILE, "k", "c")
    return Rotation(
        id=RotationId("r"),
        begun_at=_AT,
        est_url="https://h/est",
        old=pair,
        new=pair,
        phase=Phase.KEY_GENERATED,
        facts={Phase.BEGUN: {}},
        reached={},
    )


@pytest.mark.parametrize(
    ("share", "days"), [(0.5, 50), (0.25, 25), (1.0, 100), (0.66, 66), (0.001, 0.1)]
)
def test_a_rotation_is_due_after_a_share_of_the_life(share: float, days: float) -> None:
    due = due_at(_AT, _AT + 100 * _DAY, share)

    assert abs(due - (_AT + timedelta(days=days))) < timedelta(seconds=1)


def test_what_did_not_fail_may_go_on_at_once() -> None:
    assert next_try(_rotation()) is None
    assert wait_until(_rotation(), _AT) is None


def _paused(phase: Phase, failures: int = 1, asked_s: int | None = None) -> Rotation:
    pause = Pause(_AT, phase, "timed out", asked_s)
    return replace(_rotation(), paused=pause, failures=failures)


@pytest.mark.parametrize("peer", list(Peer))
def test_waits_double_up_to_a_cap_with_up_to_a_half_off_by_chance(peer: Peer) -> None:
    backoff = BACKOFF[peer]
    longest = [backoff.after(failures, 0.0) for failures in range(1, 60)]

    assert longest[0] == backoff.first
    assert all(b == min(2 * a, backoff.cap) for a, b in itertools.pairwise(longest))
    assert longest[-1] == backoff.cap == backoff.after(10**9, 0.0)
    assert backoff.after(3, 1.0) == longest[2] / 2
    assert longest[2] / 2 < backoff.after(3, 0.3) < longest[2]


def test_who_failed_decides_how_long_to_wait() -> None:
    """A CA is asked slowly; a gateway has the configuration locked until we are back."""
    waits = {phase: BACKOFF[peer].cap for phase, peer in DEPENDS_ON.items()}

    assert waits[Phase.CERT_ISSUED] > waits[Phase.LOCKED] == waits[Phase.CONFIRMED]
    reachable = {after for following in TRANSITIONS.values() for after in following}
    assert reachable - {Phase.SUPERSEDED, Phase.REVERTING} == set(DEPENDS_ON)


def test_a_failure_waits_by_its_own_count_and_peer() -> None:
    for failures in (1, 2, 7):
        until = next_try(_paused(Phase.CERT_ISSUED, failures))
        longest = BACKOFF[Peer.EST].after(failures, 0.0)
        assert until is not None
        assert _AT + longest / 2 <= until <= _AT + longest


def _fleet(rotation: Rotation) -> list[Rotation]:
    """200 devices in the same state."""
    begun = rotation.facts[Phase.BEGUN]
    return [
        replace(rotation, facts={Phase.BEGUN: {**begun, "event_seed": str(number)}})
        for number in range(200)
    ]


def test_devices_that_fail_together_do_not_come_back_together() -> None:
    """By the seed of each rotation; the same device answers the same whenever it is asked."""
    rotations = _fleet(_paused(Phase.LOCKED, 9))
    times = {next_try(each) for each in rotations}

    assert len(times) > 190
    assert times == {next_try(each) for each in rotations}


@pytest.mark.parametrize("seconds", [600, 3600])
def test_a_peer_that_asks_for_time_gets_it(seconds: int) -> None:
    """Counted from the answer, not from when somebody looks; never less than it asked for."""
    rotation = _paused(Phase.CERT_ISSUED, asked_s=seconds)

    until = next_try(rotation)
    assert until is not None
    assert _AT + timedelta(seconds=seconds) <= until <= _AT + timedelta(seconds=1.5 * seconds)
    assert until == wait_until(rotation, _AT)
    assert until == wait_until(rotation, until - timedelta(seconds=1))
    assert wait_until(rotation, until) is None


def test_a_fleet_that_was_asked_to_come_in_an_hour_does_not_come_in_one_second() -> None:
    """A busy server says the same to all of them."""
    times = [next_try(each) for each in _fleet(_paused(Phase.CERT_ISSUED, asked_s=3600))]

    in_five_minutes = Counter(int((at - _AT).total_seconds() // 300) for at in times if at)
    assert set(in_five_minutes) == set(range(12, 18))
    assert max(in_five_minutes.values()) < 2 * len(times) / 6


def test_a_peer_that_asks_for_years_gets_a_day() -> None:
    until = next_try(_paused(Phase.CERT_ISSUED, asked_s=10**17))

    assert until is not None
    assert _AT + _DAY <= until <= _AT + 1.5 * _DAY


def test_a_peer_that_asks_for_nothing_does_not_get_us_sooner() -> None:
    rotation = _paused(Phase.CERT_ISSUED, failures=9, asked_s=0)

    assert next_try(rotation) == next_try(_paused(Phase.CERT_ISSUED, failures=9))


# --- validity, and patience ---


def _ending_in(left: timedelta, patience: timedelta | None = None) -> Rotation:
    """One of which the EST server has failed often, with so much validity left."""
    begun: dict[str, str | int | bool] = {"old_not_after": (_AT + left).isoformat()}
    if patience is not None:
        begun["patience_s"] = int(patience.total_seconds())
    return replace(_paused(Phase.CERT_ISSUED, 30), facts={Phase.BEGUN: begun})


@pytest.mark.parametrize("patience", [None, 2 * _DAY], ids=["in a hurry", "patient"])
def test_attempts_get_denser_towards_expiry(patience: timedelta | None) -> None:
    """And rarer again the longer a certificate is over."""
    lefts = [_DAY * days for days in (400, 30, 4, 1)]
    lefts += [timedelta(hours=hours) for hours in (6, 2, 1, 0, -1, -24, -24 * 30)]
    longest = []
    for left in lefts:
        waits = [next_try(each) for each in _fleet(_ending_in(left, patience))]
        longest.append(max(until for until in waits if until is not None) - _AT)

    before, after = longest[:8], longest[7:]
    assert before == sorted(before, reverse=True)
    assert after == sorted(after)
    assert longest[7] <= timedelta(minutes=10)
    assert all(wait <= left / 4 for wait, left in zip(longest, lefts[:6], strict=False))


def test_not_even_a_server_that_asks_for_it_lets_a_certificate_run_out() -> None:
    """Half of what is left is waited for at most."""
    rotation = _ending_in(timedelta(hours=2))
    assert rotation.paused is not None
    asked = replace(rotation, paused=replace(rotation.paused, retry_after_s=86_400))

    assert next_try(asked) == _AT + timedelta(hours=1)


def test_who_has_time_comes_back_over_all_of_it_after_one_quick_try() -> None:
    """A short trouble costs minutes; a long one does not bring the fleet back in one hour."""
    patient = _ending_in(400 * _DAY, 2 * _DAY)
    quick = next_try(replace(patient, failures=1))
    assert quick is not None
    assert quick <= _AT + timedelta(minutes=1)

    waits = [until - _AT for each in _fleet(patient) if (until := next_try(each))]

    in_quarters = Counter(int(wait / (_DAY / 2)) for wait in waits)
    assert set(in_quarters) == {0, 1, 2, 3}
    assert max(in_quarters.values()) < 1.5 * len(waits) / 4


def test_who_is_asked_to_wait_has_no_quick_try() -> None:
    """A server that says 503 with Retry-After has too much to do: come back spread."""
    patient = replace(_ending_in(400 * _DAY, 2 * _DAY), failures=1)
    assert patient.paused is not None
    asked = replace(patient, paused=replace(patient.paused, retry_after_s=60))

    waits = [until - _AT for each in _fleet(asked) if (until := next_try(each))]

    assert min(waits) >= timedelta(seconds=60)
    assert sum(wait > _DAY for wait in waits) > len(waits) / 3


def test_a_request_that_was_accepted_is_asked_about_when_it_was_said() -> None:
    """202 is no trouble but the usual course with some CAs, and they do not keep it for days."""
    patient = _ending_in(400 * _DAY, 2 * _DAY)
    assert patient.paused is not None
    accepted = replace(patient.paused, retry_after_s=600, accepted=True)

    until = next_try(replace(patient, paused=accepted, failures=1))

    assert until is not None
    assert _AT + timedelta(minutes=10) <= until <= _AT + timedelta(minutes=15)


def test_only_an_est_server_is_waited_for_with_patience() -> None:
    """A gateway that knows the key has the operator's writes locked."""
    patient = replace(_ending_in(400 * _DAY, 2 * _DAY), failures=30)
    locked = replace(patient, paused=Pause(_AT, Phase.CONFIRMED, "timed out", None))

    until = next_try(locked)
    assert until is not None
    assert until <= _AT + BACKOFF[Peer.GATEWAY].cap


def test_refusals_by_schedule_are_not_repeated_at_every_check_in() -> None:
    assert wait_after_refusals([], _AT, 0.5) is None
    found = [wait_after_refusals([_AT] * count, _AT + 400 * _DAY, 0.0) for count in (1, 2, 9)]

    assert [until - since for since, until in filter(None, found)] == [
        timedelta(hours=1),
        timedelta(hours=2),
        2 * _DAY,
    ]
    near = wait_after_refusals([_AT] * 9, _AT + _DAY, 0.0)
    assert near == (_AT, _AT + timedelta(hours=3))


def test_a_failure_from_the_future_is_no_reason_to_wait() -> None:
    """A wrong clock wrote it; the right one must not wait for months."""
    assert wait_until(_paused(Phase.CERT_ISSUED), _AT - timedelta(seconds=1)) is None
    silent = replace(_rotation(), silent_runs=99, ran_at=_AT)
    assert wait_until(silent, _AT - timedelta(seconds=1)) is None


def test_a_few_runs_may_die_without_a_word() -> None:
    """Power cuts are no crash loop."""
    for runs in range(FREE_SILENT_RUNS + 1):
        assert next_try(replace(_rotation(), silent_runs=runs, ran_at=_AT)) is None


def test_what_kills_the_program_again_and_again_is_tried_ever_more_rarely() -> None:
    """Whatever it says of an earlier failure; at last once a day, and never not at all."""
    waits = []
    for runs in range(FREE_SILENT_RUNS + 1, FREE_SILENT_RUNS + 40):
        for rotation in (_rotation(), _paused(Phase.LOCKED)):
            until = next_try(replace(rotation, silent_runs=runs, ran_at=_AT + _DAY))
            assert until is not None
            waits.append(until - _AT - _DAY)

    assert waits[0] <= AFTER_SILENCE.first
    assert _DAY / 2 <= waits[-1] <= AFTER_SILENCE.cap == _DAY


def test_certificates_are_not_requested_without_end() -> None:
    """By whatever clock: one that jumped does not open the gate."""
    hours = [_AT - timedelta(hours=hour) for hour in (1, 5, 23, 25, 100)]

    assert too_many(hours, _AT, 3)
    assert not too_many(hours, _AT, 4)
    assert too_many([_AT + timedelta(hours=1)] * 2, _AT, 2)
    assert not too_many([], _AT, 1)


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
    assert not clock_is_plausible(then + _DAY)
    assert clock_is_plausible(RELEASED, then)


def test_every_certificate_seen_and_the_image_are_a_floor() -> None:
    late = _AT + 400 * _DAY

    assert clock_is_plausible(late, _AT, None, late)
    assert not clock_is_plausible(late - 2 * _DAY, _AT, late, None)
