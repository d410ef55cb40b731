"""What an operator sees of a rotation: fioconfig's names, in order, once, and the truth."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fioagent.rotation import events
from fioagent.rotation.machine import Phase, Record

from .histories import (
    FORWARD,
    any_history,
    attempt,
    paused,
    reached,
    refused,
    reported,
    until,
)

_STARTED = ("CertRotationStarted", True)
_GENERATE = "Generate new certificate"
_LOCK = "Lock device configuration on server"
_LOCAL = "Update local configuration with new key"
_DEVICE = "Update device specific configuration on server with new key"
_FINALIZE = "Finalize aktualizr configuration"
_COMPLETED = "CertRotationCompleted"
_STEPS = [_STARTED, *((name, True) for name in (_GENERATE, _LOCK, _LOCAL, _DEVICE, _FINALIZE))]


def _told(records: list[Record]) -> list[tuple[str, bool]]:
    bodies: list[dict[str, Any]] = events.of(records)
    return [(body["eventType"]["id"], body["event"]["success"]) for body in bodies]


def test_a_rotation_that_succeeds_tells_every_step_and_the_end() -> None:
    """The names of fioconfig in its order, and the end that it never sends."""
    assert [*_STEPS, (_COMPLETED, True)] == _told(until(Phase.COMPLETED))


@pytest.mark.parametrize("phase", FORWARD[:-1])
def test_no_end_is_told_before_the_end(phase: Phase) -> None:
    """While anything is left to do the rotation is neither a success nor a failure."""
    assert _COMPLETED not in [name for name, _ in _told(until(phase))]


def test_no_records_are_no_events() -> None:
    assert [] == events.of([])


def test_a_body_is_what_the_gateway_takes() -> None:
    """Correlation id, target and version of the beginning; seconds, UTC, no fraction."""
    started, generated = events.of(until(Phase.CERT_ISSUED))

    assert {
        "id": started["id"],
        "deviceTime": "2026-11-01T12:00:00Z",
        "event": {
            "correlationId": "certs-1763683200",
            "success": True,
            "targetName": "intel-corei7-64-lmp-42",
            "version": "42",
        },
        "eventType": {"id": "CertRotationStarted", "version": 0},
    } == started
    assert "2026-11-01T12:00:02Z" == generated["deviceTime"]
    assert str(started["id"]) == str(uuid.UUID(str(started["id"])))


@pytest.mark.parametrize("last", [Phase.BEGUN, Phase.KEY_GENERATED, Phase.CERT_ISSUED])
def test_a_failure_before_the_pivot_is_told_as_one(last: Phase) -> None:
    """Here the end is the failure, with its reason; fioconfig ends the same story with success."""
    records = [*until(last), reached(Phase.ABANDONED, facts={"reason": "est answered 403"})]

    told = _told(records)

    assert (_COMPLETED, False) == told[-1]
    assert 1 == [name for name, _ in told].count(_COMPLETED)
    assert "est answered 403" == _details(records)[-1]


def _details(records: list[Record]) -> list[str | None]:
    bodies: list[dict[str, Any]] = events.of(records)
    return [body["event"].get("details") for body in bodies]


def test_a_refused_credential_is_told_as_a_failed_step_and_a_failed_end() -> None:
    """The step that looked well at first is corrected before the end."""
    reason = "gw:8443 refuses the device's certificate: unknown ca"

    assert [*_STEPS, (_FINALIZE, False), (_COMPLETED, False)] == _told(refused())
    assert [None] * 6 + [reason, reason] == _details(refused())


def test_a_pause_is_a_failed_step() -> None:
    records = [
        *until(Phase.KEY_GENERATED),
        paused(Phase.CERT_ISSUED, "timed out"),
        reached(Phase.CERT_ISSUED),
    ]

    assert [_STARTED, (_GENERATE, False), (_GENERATE, True)] == _told(records)
    assert [None, "timed out", None] == _details(records)


def test_the_same_pause_a_thousand_times_is_one_event() -> None:
    """A server that is down for a week does not flood the operator."""
    again = [paused(Phase.CERT_ISSUED, "timed out", second) for second in range(1000)]

    assert [_STARTED, (_GENERATE, False)] == _told([*until(Phase.KEY_GENERATED), *again])


def test_deliveries_in_between_do_not_make_a_pause_new() -> None:
    """Each run of the agent reports what it has; that is no news."""
    records = [
        *until(Phase.KEY_GENERATED),
        paused(Phase.CERT_ISSUED, "timed out"),
        reported(2),
        paused(Phase.CERT_ISSUED, "timed out", 300),
    ]

    assert [_STARTED, (_GENERATE, False)] == _told(records)


def test_another_reason_is_another_event() -> None:
    records = [
        *until(Phase.KEY_GENERATED),
        paused(Phase.CERT_ISSUED, "timed out"),
        paused(Phase.CERT_ISSUED, "est answered 503"),
    ]

    assert [None, "timed out", "est answered 503"] == _details(records)


def test_a_pause_at_another_step_is_another_event() -> None:
    """The same line may break twice, at two steps."""
    records = [
        *until(Phase.KEY_GENERATED),
        paused(Phase.CERT_ISSUED, "timed out"),
        reached(Phase.CERT_ISSUED),
        paused(Phase.LOCKED, "timed out"),
    ]

    assert [_STARTED, (_GENERATE, False), (_GENERATE, True), (_LOCK, False)] == _told(records)


def test_attempts_and_silent_phases_are_not_for_operators() -> None:
    before = until(Phase.COMMITTED)

    assert _told(before) == _told([*before, attempt(Phase.CONFIRMED)])
    assert _told(before) == _told(until(Phase.RETIRED))


@pytest.mark.parametrize("size", [2047, 2048, 2049, 100_000])
def test_long_details_are_cut(size: int) -> None:
    """A gateway has a limit for a body; what is cut says so."""
    reason = "x" * size
    records = [*until(Phase.KEY_GENERATED), paused(Phase.CERT_ISSUED, reason)]

    details = _details(records)[-1]

    assert (reason if size <= 2048 else "x" * 2048 + "...[TRUNCATED]") == details


@given(any_history(), st.data())
def test_earlier_events_stay_as_they_are(records: list[Record], data: st.DataObject) -> None:
    """Whatever is added later, the first events keep place, id and body: a resend is no second."""
    cut = data.draw(st.integers(0, len(records)))

    before, after = events.of(records[:cut]), events.of(records)

    assert before == after[: len(before)]


@given(any_history())
def test_the_end_is_told_once_and_success_means_confirmed(records: list[Record]) -> None:
    ends = [success for name, success in _told(records) if name == _COMPLETED]
    phases = [record.phase for record in records if record.kind.value == "phase"]

    assert ends == [phases[-1] is Phase.COMPLETED] * (
        phases[-1] in (Phase.COMPLETED, Phase.ABANDONED, Phase.SUPERSEDED)
    )
    assert True not in ends or Phase.CONFIRMED in phases


@given(any_history())
def test_no_two_events_share_an_id(records: list[Record]) -> None:
    """The gateway drops the second of two; and another rotation has other ids."""
    ids = [body["id"] for body in events.of(records)]
    other = [reached(Phase.BEGUN, facts={**records[0].facts, "event_seed": str(uuid.UUID(int=5))})]

    assert len(ids) == len(set(ids))
    assert events.of(other)[0]["id"] not in ids
