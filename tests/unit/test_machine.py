"""The table of phases says where each leads, and a history says where a rotation stands."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from fioagent.model import CredentialRef, Facts, Store
from fioagent.rotation.machine import (
    ATTEMPTS,
    ENDS,
    TRANSITIONS,
    HistoryError,
    Kind,
    Phase,
    Record,
    Rotation,
    fold,
    next_phase,
)

_FORWARD = [
    Phase.BEGUN,
    Phase.KEY_GENERATED,
    Phase.CERT_ISSUED,
    Phase.LOCKED,
    Phase.CONFIG_STAGED,
    Phase.DEVICE_CONFIG_UPDATED,
    Phase.COMMITTED,
    Phase.CONFIRMED,
    Phase.SERVICES_RESTARTED,
    Phase.RETIRED,
    Phase.COMPLETED,
]
_BEFORE_PIVOT = (Phase.BEGUN, Phase.KEY_GENERATED, Phase.CERT_ISSUED)
_AT = datetime(2026, 11, 1, tzinfo=timezone.utc)
_BEGINNING: Facts = {
    "id": "certs-1",
    "est_url": "https://est.example/.well-known/est",
    "store": "file",
    "old_key": "/s/pkey.pem",
    "old_certificate": "/s/client.pem",
    "new_key": "/s/pkey.certs-1.pem",
    "new_certificate": "/s/client.certs-1.pem",
}
_OLD = CredentialRef(Store.FILE, "/s/pkey.pem", "/s/client.pem")
_NEW = CredentialRef(Store.FILE, "/s/pkey.certs-1.pem", "/s/client.certs-1.pem")


def _record(kind: Kind, phase: Phase | None = None, facts: Facts | None = None) -> Record:
    return Record(kind, _AT, phase, facts or {})


def _reached(phase: Phase, facts: Facts | None = None) -> Record:
    return _record(Kind.PHASE, phase, _BEGINNING if phase is Phase.BEGUN else facts)


def _history(until: Phase) -> list[Record]:
    """As the rotator writes it: an attempt before what cannot be taken back."""
    records = []
    for phase in _FORWARD[: _FORWARD.index(until) + 1]:
        if phase in ATTEMPTS:
            records.append(_record(Kind.ATTEMPT, phase))
        records.append(_reached(phase))
    return records


def _folded(records: list[Record]) -> Rotation:
    rotation = fold(records)
    assert rotation is not None
    return rotation


def test_the_table_knows_every_phase() -> None:
    """A phase that was forgotten there would strand a device."""
    assert set(Phase) == set(TRANSITIONS)
    assert set(Phase) == {after for following in TRANSITIONS.values() for after in following} | {
        Phase.BEGUN
    }


def test_every_way_forward_leads_to_completion() -> None:
    """From each phase but REVERTING and ABANDONED, by first choices alone, in the order named."""
    for start, phase in enumerate(_FORWARD):
        walked, at = [phase], phase
        while TRANSITIONS[at]:
            at = TRANSITIONS[at][0]
            walked.append(at)
        assert _FORWARD[start:] == walked


def test_backing_out_is_for_before_the_pivot_and_for_a_refusal() -> None:
    """After the gateway knows the new key there is only forward, or the way over REVERTING."""
    abandoned_from = {phase for phase, after in TRANSITIONS.items() if Phase.ABANDONED in after}
    reverting_from = {phase for phase, after in TRANSITIONS.items() if Phase.REVERTING in after}

    assert {*_BEFORE_PIVOT, Phase.REVERTING} == abandoned_from
    assert {Phase.COMMITTED} == reverting_from
    back = (Phase.ABANDONED, Phase.DEVICE_CONFIG_UPDATED, Phase.SUPERSEDED)
    assert back == TRANSITIONS[Phase.REVERTING]
    assert {Phase.COMPLETED, Phase.ABANDONED, Phase.SUPERSEDED} == ENDS


def test_another_rotation_may_follow_until_the_new_credential_is_named() -> None:
    """From the commit on any program may use it, and only forward is safe."""
    before = _FORWARD[: _FORWARD.index(Phase.COMMITTED)]

    for phase in _FORWARD:
        assert (phase in before) == _folded(_history(phase)).may_be_superseded
    seen = [*_history(Phase.DEVICE_CONFIG_UPDATED), _record(Kind.ATTEMPT, Phase.CONFIRMED)]
    assert not _folded(seen).may_be_superseded


def test_only_a_request_and_a_commit_may_come_again() -> None:
    """An EST server that wants another request, a gateway that takes the new pair after all."""
    table = {phase: set(following) for phase, following in TRANSITIONS.items()}
    table[Phase.REVERTING].remove(Phase.DEVICE_CONFIG_UPDATED)
    table[Phase.KEY_GENERATED].remove(Phase.KEY_GENERATED)

    def after(phase: Phase) -> set[Phase]:
        return table[phase].union(*(after(each) for each in table[phase]))

    assert all(phase not in after(phase) for phase in Phase)


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        TRANSITIONS[Phase.BEGUN] = ()  # type: ignore[index]  # the promise under test


@pytest.mark.parametrize("phase", _FORWARD)
def test_a_history_folds_to_its_latest_phase(phase: Phase) -> None:
    rotation = _folded(_history(phase))

    assert ("certs-1", phase) == (rotation.id, rotation.phase)
    assert (_OLD, _NEW) == (rotation.old, rotation.new)
    assert _AT == rotation.begun_at
    assert (phase not in ENDS) == rotation.is_open
    assert (phase in _BEFORE_PIVOT) == rotation.before_pivot
    position = _FORWARD.index(phase) + 1
    assert (_FORWARD[position] if position < len(_FORWARD) else None) == next_phase(rotation)


def test_no_records_are_no_rotation() -> None:
    assert fold([]) is None


@pytest.mark.parametrize("before", list(Phase))
@pytest.mark.parametrize("after", list(Phase))
def test_only_what_the_table_allows_may_follow(before: Phase, after: Phase) -> None:
    """Any other order is no history that a run of ours can have written."""
    if before is Phase.REVERTING:
        records = [*_history(Phase.COMMITTED), _reached(before)]
    elif before in (Phase.ABANDONED, Phase.SUPERSEDED):
        records = [*_history(Phase.BEGUN), _reached(before)]
    else:
        records = _history(before)
    if after in ATTEMPTS:
        records.append(_record(Kind.ATTEMPT, after))
    records.append(_reached(after))

    if after in TRANSITIONS[before]:
        assert after is _folded(records).phase
    else:
        with pytest.raises(HistoryError, match=f"{after.value} follows {before.value}"):
            fold(records)


@pytest.mark.parametrize("phase", sorted(ATTEMPTS))
def test_what_cannot_be_taken_back_is_announced_first(phase: Phase) -> None:
    """A lock or a first use without its attempt before it was not written by us."""
    before = next(each for each, following in TRANSITIONS.items() if phase in following)

    with pytest.raises(HistoryError, match=f"{phase.value} without its attempt"):
        fold([*_history(before), _reached(phase)])


@pytest.mark.parametrize(
    "first",
    [
        _reached(Phase.KEY_GENERATED),
        _record(Kind.ATTEMPT, Phase.BEGUN),
        _record(Kind.PAUSE, Phase.BEGUN),
        _record(Kind.REPORTED, None, {"events": 1}),
    ],
)
def test_a_history_begins_at_the_beginning(first: Record) -> None:
    with pytest.raises(HistoryError, match="the first record is not a beginning"):
        fold([first])


@pytest.mark.parametrize("name", sorted(_BEGINNING))
def test_a_beginning_without_its_facts_is_refused(name: str) -> None:
    facts = {key: value for key, value in _BEGINNING.items() if key != name}

    with pytest.raises(HistoryError, match=f"the beginning lacks '{name}'"):
        fold([_record(Kind.PHASE, Phase.BEGUN, facts)])


def test_an_unknown_store_is_refused() -> None:
    with pytest.raises(HistoryError, match="cloud"):
        fold([_record(Kind.PHASE, Phase.BEGUN, {**_BEGINNING, "store": "cloud"})])


@pytest.mark.parametrize("kind", [Kind.PHASE, Kind.ATTEMPT, Kind.PAUSE])
def test_a_record_about_no_phase_is_refused(kind: Kind) -> None:
    with pytest.raises(HistoryError):
        fold([*_history(Phase.BEGUN), _record(kind)])


def test_the_old_credential_is_live_until_the_new_one_may_have_been_seen() -> None:
    """The attempt is recorded before the first request: from that record on the new one counts."""
    before = _history(Phase.COMMITTED)

    for count in range(1, len(before) + 1):
        assert _OLD == _folded(before[:count]).live
    assert _NEW == _folded([*before, _record(Kind.ATTEMPT, Phase.CONFIRMED)]).live
    for phase in (Phase.CONFIRMED, Phase.SERVICES_RESTARTED, Phase.RETIRED, Phase.COMPLETED):
        assert _NEW == _folded(_history(phase)).live


def test_announcing_the_new_key_shows_it_to_nobody() -> None:
    """The old credential stays live, but backing out is no longer free: the answer may be lost."""
    before = _folded(_history(Phase.CERT_ISSUED))
    after = _folded([*_history(Phase.CERT_ISSUED), _record(Kind.ATTEMPT, Phase.LOCKED)])

    assert (_OLD, _OLD) == (before.live, after.live)
    assert (True, False) == (before.before_pivot, after.before_pivot)
    assert Phase.LOCKED is next_phase(after)


@pytest.mark.parametrize("phase", [Phase.LOCKED, Phase.CONFIRMED])
def test_an_attempt_is_remembered(phase: Phase) -> None:
    """So that it is recorded once, however often the step is tried."""
    before = _history(_FORWARD[_FORWARD.index(phase) - 1])
    attempted = [*before, _record(Kind.ATTEMPT, phase)]
    again = [*attempted, _record(Kind.PAUSE, phase, {"reason": "timed out"})]

    assert {Phase.LOCKED, Phase.CONFIRMED} == ATTEMPTS
    assert not _folded(before).has_attempted(phase)
    assert _folded(attempted).has_attempted(phase)
    assert _folded(again).has_attempted(phase)


def test_a_refusal_makes_the_old_credential_live_again() -> None:
    refused = [
        *_history(Phase.COMMITTED),
        _record(Kind.ATTEMPT, Phase.CONFIRMED),
        _reached(Phase.REVERTING, {"reason": "no"}),
    ]

    assert _OLD == _folded(refused).live
    assert _OLD == _folded([*refused, _reached(Phase.ABANDONED)]).live


def test_a_pause_says_why_and_how_long() -> None:
    facts: Facts = {"reason": "cannot reach est.example", "retry_after_s": 60}
    record = Record(Kind.PAUSE, _AT + timedelta(hours=1), Phase.CERT_ISSUED, facts)

    rotation = _folded([*_history(Phase.KEY_GENERATED), record])

    assert Phase.KEY_GENERATED is rotation.phase
    assert rotation.paused is not None
    assert (_AT + timedelta(hours=1), Phase.CERT_ISSUED) == (
        rotation.paused.at,
        rotation.paused.phase,
    )
    assert ("cannot reach est.example", 60) == (
        rotation.paused.reason,
        rotation.paused.retry_after_s,
    )


def test_the_latest_pause_counts_until_a_phase_is_reached() -> None:
    pauses = [_record(Kind.PAUSE, Phase.CERT_ISSUED, {"reason": reason}) for reason in ("a", "b")]
    history = [*_history(Phase.KEY_GENERATED), *pauses]

    paused = _folded(history).paused
    assert paused is not None
    assert ("b", None) == (paused.reason, paused.retry_after_s)
    assert _folded([*history, _reached(Phase.CERT_ISSUED)]).paused is None


def test_another_est_server_and_delivered_events_are_kept() -> None:
    records = [
        *_history(Phase.BEGUN),
        _record(Kind.AMEND, None, {"est_url": "https://other/est"}),
        _record(Kind.REPORTED, None, {"events": 1}),
        _reached(Phase.KEY_GENERATED),
        _record(Kind.REPORTED, None, {"events": 2}),
    ]

    rotation = _folded(records)

    assert "https://other/est" == rotation.est_url
    assert 2 == rotation.reported
    assert Phase.KEY_GENERATED is rotation.phase


def test_what_a_phase_wrote_down_is_at_hand_later() -> None:
    records = _history(Phase.BEGUN)
    records.append(_reached(Phase.KEY_GENERATED, {"csr": "MII", "n": 5}))
    records.append(_reached(Phase.CERT_ISSUED, {"serial": "0F"}))

    rotation = _folded(records)

    assert ("MII", "5") == tuple(rotation.fact(Phase.KEY_GENERATED, name) for name in ("csr", "n"))
    assert "0F" == rotation.fact(Phase.CERT_ISSUED, "serial")
    assert "certs-1" == rotation.fact(Phase.BEGUN, "id")
