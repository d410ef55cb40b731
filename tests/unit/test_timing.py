"""Whether a rotation is wanted, and when: decided from values, for any clock and any fleet."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fioagent.config import trigger
from fioagent.config.trigger import Trigger
from fioagent.model import CredentialRef, RotationId, Store
from fioagent.rotation import timing
from fioagent.rotation.machine import Pause, Phase, Rotation
from fioagent.rotation.situation import Ended, Rules, Setback, Situation, Why

AT = datetime(2027, 1, 1, 12, tzinfo=timezone.utc)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
RULES = Rules(0.66, None, 14 * DAY, timedelta())


def a_trigger(*lines: str, identifier: str = "certs-7") -> Trigger:
    return trigger.parse("\n".join([f"ROTATIONID={identifier}", *lines]).encode())


def situation(**changes: object) -> Situation:
    """A certificate of a hundred days, of which ten are over; nothing asks for anything."""
    usual = Situation(AT, True, "device-1", AT - 10 * DAY, AT + 90 * DAY)  # noqa: FBT003  # plausible
    return replace(usual, **changes)  # type: ignore[arg-type]  # names are the fields'


def open_one(phase: Phase = Phase.KEY_GENERATED, **changes: object) -> Rotation:
    pair = CredentialRef(Store.FILE, "k", "c")
    begun = {Phase.BEGUN: {"trigger": a_trigger().digest}}
    rotation = Rotation(RotationId("certs-7"), AT, "https://e/est", pair, pair, phase, begun, {})
    return replace(rotation, **changes)  # type: ignore[arg-type]  # names are the fields'


def test_nothing_asks_for_anything() -> None:
    decision = timing.decide(situation(), RULES)

    assert not decision.wanted
    assert Why.SCHEDULE is decision.why
    assert decision.next_at is not None
    assert AT + 56 * DAY <= decision.next_at < AT + 70 * DAY
    assert "rotation is due on 20" in decision.said


@given(
    share=st.floats(0.01, 1.0),
    spread=st.timedeltas(timedelta(), 400 * DAY),
    life=st.timedeltas(HOUR, 7300 * DAY),
    device=st.text(max_size=40),
)
def test_the_place_in_the_spread_leaves_time_to_try_again(
    share: float, spread: timedelta, life: timedelta, device: str
) -> None:
    """Not before the point that is set; two thirds of what is left after it stay."""
    rules = Rules(share, None, spread, timedelta())

    due = timing.due_at(AT, AT + life, rules)
    at = timing.scheduled_at(AT, AT + life, rules, device)

    assert due <= at <= due + min(spread, (AT + life - due) / 3)
    assert at == timing.scheduled_at(AT, AT + life, rules, device)


@given(
    window=st.timedeltas(timedelta(), 400 * DAY),
    start=st.one_of(st.none(), st.timedeltas(-30 * DAY, 30 * DAY)),
    left=st.timedeltas(-30 * DAY, 400 * DAY),
    device=st.text(max_size=40),
)
def test_the_place_in_a_window_leaves_half_of_the_certificates_life(
    window: timedelta, start: timedelta | None, left: timedelta, device: str
) -> None:
    """And never before START, nor before the device has seen the file."""
    file = replace(a_trigger(), window=window, start=None if start is None else AT + start)

    at = timing.slot(file, AT, AT + left, RULES, device)

    begin = max(AT, file.start or AT)
    assert begin <= at <= begin + window
    assert at <= max(begin, begin + (AT + left - begin) / 2)


def test_a_fleet_spreads_evenly_and_anew_for_each_rotation() -> None:
    """The device that is first in one rotation is not the first of all of them."""
    names = [f"device-{number}" for number in range(2000)]
    first, second = (
        [
            timing.slot(a_trigger("WINDOW=24h", identifier=i), AT, AT + 90 * DAY, RULES, n)
            for n in names
        ]
        for i in ("certs-1", "certs-2")
    )

    hours = Counter(int((at - AT) / HOUR) for at in first)
    assert set(range(24)) == set(hours)
    assert max(hours.values()) < 2 * 2000 / 24
    earlier = sum(a < b for a, b in zip(first, second, strict=True))
    assert 900 < earlier < 1100


def test_a_look_from_the_future_does_not_put_the_window_off() -> None:
    """A wrong clock has seen the file in 2099; now it is right."""
    file = a_trigger("WINDOW=24h")
    decision = timing.decide(situation(trigger=file, seen_at=AT + 9000 * DAY), RULES)

    assert decision.next_at is not None
    assert decision.next_at <= AT + DAY


@pytest.mark.parametrize(
    ("end", "same_file", "over"),
    [
        (Phase.COMPLETED, True, True),
        (Phase.COMPLETED, False, True),
        (Phase.SUPERSEDED, False, True),
        (Phase.ABANDONED, True, True),
        (Phase.ABANDONED, False, False),
    ],
)
def test_what_is_done_is_done_and_what_was_refused_waits_for_another_file(
    end: Phase, same_file: bool, over: bool
) -> None:
    file = a_trigger()
    digest = file.digest if same_file else "another"

    assert over is timing.is_over(file, [Ended(file.id, end, AT, digest)])
    assert not timing.is_over(file, [Ended(RotationId("certs-8"), end, AT, digest)])


@given(st.timedeltas(-20_000 * DAY, 60_000 * DAY))
def test_a_clock_that_cannot_be_makes_nothing_due(wrong_by: timedelta) -> None:
    """Whatever it says, and whatever waits."""
    now = AT + wrong_by
    waiting = situation(
        now=now,
        plausible=False,
        trigger=a_trigger(),
        promised=(RotationId("certs-3"), ""),
        not_before=AT - 4000 * DAY,
        not_after=AT - DAY,
    )

    decision = timing.decide(waiting, RULES)

    assert (False, Why.CLOCK) == (decision.wanted, decision.why)
    assert not timing.decide(replace(waiting, open=open_one(), promised=None), RULES).wanted
    locked = replace(waiting, open=open_one(Phase.LOCKED, announced=True), promised=None)
    assert timing.decide(locked, RULES).wanted


def test_an_expired_certificate_is_said_so_and_wanted() -> None:
    decision = timing.decide(situation(now=AT + 91 * DAY), RULES)

    assert decision.wanted
    assert "the certificate has expired on" in decision.said


# --- an open rotation ---


def test_an_open_rotation_has_its_own_times() -> None:
    paused = open_one(paused=Pause(AT, Phase.CERT_ISSUED, "timed out", None), failures=1)

    assert timing.decide(situation(open=open_one()), RULES).wanted
    decision = timing.decide(situation(open=paused), RULES)

    assert (False, Why.OPEN) == (decision.wanted, decision.why)
    assert decision.next_at is not None
    assert "timed out" in decision.said


def test_another_id_takes_its_place_when_its_turn_has_come() -> None:
    """Where nothing is lost by that; else it waits for the end."""
    paused = open_one(paused=Pause(AT, Phase.CERT_ISSUED, "timed out", None), failures=1)
    other = a_trigger(identifier="certs-8")
    here = situation(open=paused, replaceable=True, trigger=other, seen_at=AT)

    assert "certs-8" == timing.decide(here, RULES).id
    assert not timing.decide(replace(here, replaceable=False), RULES).wanted
    later = replace(other, start=AT + DAY)
    decision = timing.decide(replace(here, trigger=later), RULES)
    assert (False, Why.OPEN) == (decision.wanted, decision.why)


@pytest.mark.parametrize(
    ("phase", "file", "wanted"),
    [
        (Phase.KEY_GENERATED, a_trigger("ESTSERVER=https://right/est"), True),
        (Phase.CERT_ISSUED, a_trigger("ESTSERVER=https://right/est"), False),
        (Phase.KEY_GENERATED, a_trigger("ESTSERVER=https://e/est"), False),
        (Phase.KEY_GENERATED, a_trigger(), False),
    ],
    ids=["corrected", "too late to matter", "the same server", "the same file"],
)
def test_a_corrected_server_is_asked_at_once(phase: Phase, file: Trigger, wanted: bool) -> None:
    paused = open_one(phase, paused=Pause(AT, Phase.CERT_ISSUED, "timed out", None), failures=5)

    decision = timing.decide(situation(open=paused, replaceable=True, trigger=file), RULES)

    assert wanted is decision.wanted
    assert not wanted or decision.est_url == "https://right/est"


# --- what did not work ---


def test_a_setback_holds_up_what_it_was_about_and_nothing_else() -> None:
    file, other = a_trigger(), a_trigger(identifier="certs-8")
    setback = Setback(file.digest, AT, 3, None, "no room")

    held = timing.decide(situation(trigger=file, setback=setback), RULES)

    assert (False, True) == (held.wanted, held.held_up)
    assert held.next_at is not None
    assert "no room" in held.said
    assert timing.decide(situation(trigger=file, setback=setback, now=held.next_at), RULES).wanted
    assert timing.decide(situation(trigger=other, setback=setback), RULES).wanted


def test_a_setback_from_the_future_is_no_reason_to_wait() -> None:
    setback = Setback(a_trigger().digest, AT + DAY, 9, None, "no room")

    assert timing.decide(situation(trigger=a_trigger(), setback=setback), RULES).wanted


def test_refusals_in_a_row_hold_up_the_schedule_alone() -> None:
    refused = [Ended(RotationId(f"r{n}"), Phase.ABANDONED, AT + 80 * DAY, "") for n in range(3)]
    here = situation(now=AT + 80 * DAY, ended=refused)

    assert not timing.decide(here, RULES).wanted
    assert timing.decide(replace(here, trigger=a_trigger()), RULES).wanted
    done = Ended(RotationId("r9"), Phase.COMPLETED, AT + 80 * DAY, "")
    assert timing.decide(replace(here, ended=[*refused, done]), RULES).wanted


def test_a_decision_is_told_to_machines() -> None:
    told = timing.decide(situation(trigger=a_trigger()), RULES).as_json()

    assert {
        "wanted": True,
        "next_at": None,
        "why": "trigger",
        "id": "certs-7",
    }.items() <= told.items()


def test_an_open_rotation_is_looked_at_when_the_other_has_its_turn() -> None:
    """What waits for a server for hours must not hide another trigger's moment."""
    failed = Pause(AT, Phase.CERT_ISSUED, "est answered 500", 86_400)
    rotation = open_one(paused=failed, failures=3)
    other = a_trigger("WINDOW=1h", identifier="certs-8")
    here = situation(open=rotation, replaceable=True, trigger=other, seen_at=AT)
    turn = timing.slot(other, AT, here.not_after, RULES, here.device)

    decision = timing.decide(here, RULES)

    assert (decision.wanted, decision.next_at) == (False, turn)
    alone = timing.decide(replace(here, trigger=None), RULES).next_at
    assert alone is not None
    assert alone > turn
