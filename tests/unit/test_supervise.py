"""What the resident service does when, as a function of how its duties went."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fioagent.model import Exit
from fioagent.rotation.machine import Phase
from fioagent.supervise import (
    CHECK,
    CHECK_IN,
    COMMITTING,
    CONFIG,
    CRASHED,
    DONE,
    EXITED,
    FAILED,
    HANDLER,
    HUNG,
    NOT_STARTED,
    ROTATE,
    TRY_AGAIN,
    Ended,
    Timetable,
    how_ended,
    unix_time,
)

INTERVAL = 400.0
WALL = 1_800_000_000.0


def checked(draw: float = 0.5) -> Timetable:
    """A table that has its first look at the configuration behind it, at 0."""
    table = Timetable(0.0, draw)
    table.ended(Ended(CHECK, EXITED, 0, {"interval_s": INTERVAL}), 0.0, 0.0)
    return table


def told(rotation: object, at: float = 150.0) -> Timetable:
    """A table after a check-in that said this of rotations."""
    table = checked()
    table.ended(Ended(CHECK_IN, EXITED, 0, {"rotation": rotation}), at, at)
    return table


def test_the_configuration_comes_first() -> None:
    """Before anything else is started."""
    table = Timetable(0.0, 0.0)

    assert (CHECK, 0.0) == (table.due(0.0, WALL), table.wait(0.0, WALL))


def test_a_reload_forgets_what_failed_before() -> None:
    """A person has mended something: the next failure is a first one."""
    table = checked()
    for now in (1e4, 2e4, 3e4):
        table.ended(Ended(CHECK_IN, CRASHED, -11, {}), now, now)
    assert table.check_in_at == 3e4 + 4 * INTERVAL

    table.reload(4e4)
    table.ended(Ended(CHECK_IN, CRASHED, -11, {}), 4e4, 4e4)

    assert table.check_in_at == 4e4 + INTERVAL


@pytest.mark.parametrize(
    ("asked", "wait"),
    [(1000, 1250.0), (10**9, 3600.0), (1, INTERVAL), (None, INTERVAL), ("5", INTERVAL)],
)
def test_a_gateway_that_asks_to_wait_is_left_alone(asked: object, wait: float) -> None:
    """By chance a little longer, an hour at most; never more often than the interval."""
    table = checked(draw=0.5)
    table.ended(Ended(CHECK_IN, EXITED, TRY_AGAIN, {"retry_after_s": asked}), 200.0, 200.0)

    assert table.check_in_at == 200.0 + wait
    table.ended(Ended(CHECK_IN, EXITED, 0, {}), 5000.0, 5000.0)
    assert table.check_in_at == 5000.0 + INTERVAL


@pytest.mark.parametrize("draw", [0.0, 0.25, 0.999])
def test_the_first_check_in_is_somewhere_in_the_interval(draw: float) -> None:
    """A fleet that gets its power back in one minute does not come in one minute."""
    table = checked(draw)

    assert table.wait(0.0, WALL) == INTERVAL * draw
    assert table.due(INTERVAL * draw, WALL) == CHECK_IN


def test_the_interval_is_what_the_configuration_says() -> None:
    """Also after a reload; what it cannot say leaves what was known."""
    table = checked()
    table.reload(10.0)
    for answer in ({"interval_s": 60}, {"interval_s": "soon"}, {"interval_s": -1}, {}):
        table.ended(Ended(CHECK, EXITED, 0, answer), 10.0, 11.0)
        assert table.interval_s == 60.0
    assert table.check_in_at == 10.0


def test_check_ins_keep_their_places() -> None:
    """However long each takes."""
    table = checked()
    table.ended(Ended(CHECK_IN, EXITED, 0, {}), 150.0, 170.0)

    assert table.check_in_at == 150.0 + INTERVAL


def test_a_check_in_that_takes_longer_than_the_interval_leaves_room() -> None:
    """For a rotation that waits."""
    table = checked()
    table.ended(Ended(CHECK_IN, EXITED, 0, {"rotation": {"wanted": True}}), 150.0, 800.0)

    assert table.due(800.0, WALL) == ROTATE


@pytest.mark.parametrize("code", [1, 75, 78])
def test_a_check_in_that_says_no_is_tried_at_the_next_time(code: int) -> None:
    """As fioconfig does; the operator's correction gets through as soon as the line is back."""
    table = checked()
    for began in (150.0, 550.0, 950.0):
        table.ended(Ended(CHECK_IN, EXITED, code, {}), began, began)
        assert table.check_in_at == began + INTERVAL


@pytest.mark.parametrize("how", [CRASHED, HUNG, NOT_STARTED])
def test_a_check_in_that_goes_wrong_waits_longer_each_time(how: str) -> None:
    """Up to an hour, and as before once it works again."""
    table, now, waits = checked(), 150.0, []
    for _ in range(6):
        table.ended(Ended(CHECK_IN, how, 11, {}), now, now)
        waits.append(table.check_in_at - now)
        now = table.check_in_at
    table.ended(Ended(CHECK_IN, EXITED, 0, {}), now, now)

    assert waits == [400.0, 800.0, 1600.0, 3200.0, 3600.0, 3600.0]
    assert table.check_in_at - now == INTERVAL


def test_a_rotation_follows_a_check_in_that_wants_one() -> None:
    """At once."""
    table = told({"wanted": True, "next_at": None})

    assert (ROTATE, 0.0) == (table.due(150.0, WALL), table.wait(150.0, WALL))


def test_a_check_in_comes_before_a_rotation() -> None:
    """It may bring the operator's correction."""
    table = told({"wanted": True, "next_at": None})

    assert table.due(550.0, WALL) == CHECK_IN


def test_a_rotation_follows_when_its_time_has_come() -> None:
    """By the device's clock, however far that jumps."""
    table = told({"wanted": False, "next_at": "2027-01-15T08:00:20+00:00"})

    assert table.due(150.0, WALL) is None
    assert table.wait(150.0, WALL) == 20.0
    assert table.due(150.0, WALL + 20) == ROTATE
    assert table.wait(150.0, 0.0) == INTERVAL


@pytest.mark.parametrize("rotation", [{"wanted": False, "next_at": None}, {}, {"wanted": "yes"}])
def test_no_rotation_follows_where_none_is_wanted(rotation: object) -> None:
    """Only the word true wants one."""
    assert told(rotation).wait(150.0, WALL) == INTERVAL


def test_a_check_in_that_cannot_say_leaves_what_is_known() -> None:
    """A line that is down does not make a waiting rotation forgotten."""
    table = told({"wanted": False, "next_at": "2027-01-15T10:00:00+00:00"})
    known = table.rotation_at
    table.ended(Ended(CHECK_IN, EXITED, 75, {}), 450.0, 450.0)

    assert known is not None
    assert known == table.rotation_at


def test_a_rotation_that_waits_is_tried_when_it_says() -> None:
    """But never in a circle."""
    table = told({"wanted": True})
    again = {"next_at": "2027-01-15T07:00:00+00:00"}
    table.ended(Ended(ROTATE, EXITED, 75, again), 150.0, 160.0)

    assert table.wait(160.0, WALL) == 10.0
    assert table.due(170.0, WALL) == ROTATE


@pytest.mark.parametrize("code", [0, 1, 75, 78])
def test_after_a_rotation_the_next_check_in_has_the_word(code: int) -> None:
    """Where the rotation does not say when."""
    table = told({"wanted": True})
    table.ended(Ended(ROTATE, EXITED, code, {}), 150.0, 160.0)

    assert table.wait(160.0, WALL) == 390.0


@pytest.mark.parametrize(("how", "code"), [(CRASHED, -11), (HUNG, -9), (EXITED, 1), (EXITED, 78)])
def test_a_rotation_that_goes_wrong_waits_longer_each_time(how: str, code: int) -> None:
    """Whatever check-ins want in between; but a person who asks for a reload is heard."""
    table, now, waits = told({"wanted": True}), 150.0, []
    for _ in range(8):
        table.ended(Ended(ROTATE, how, code, {}), now, now)
        table._heard({"wanted": True})
        waits.append(table._rotation_in(now, WALL))
        now += waits[-1] or 0.0
    assert waits == [60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3600.0, 3600.0]

    table.ended(Ended(ROTATE, how, code, {}), now, now)
    table.reload(now)
    assert table.due(now, WALL) == CHECK
    table.ended(Ended(CHECK, EXITED, 0, {}), now, now)
    assert table.due(now, WALL) == CHECK_IN
    table.ended(Ended(CHECK_IN, EXITED, 0, {"rotation": {"wanted": True}}), now, now)
    assert table.due(now, WALL) == ROTATE


@pytest.mark.parametrize(
    ("code", "answer", "how"),
    [
        (0, {}, EXITED),
        (75, {}, EXITED),
        (78, {}, EXITED),
        (1, {"result": "failed"}, EXITED),
        (1, {}, CRASHED),  # a traceback
        (2, {}, CRASHED),
        (-11, {"result": "completed"}, CRASHED),
    ],
)
def test_what_counts_as_a_crash(code: int, answer: dict[str, object], how: str) -> None:
    """A signal, or a status that the command line does not have."""
    assert how_ended(code, answer) == how


def test_the_statuses_and_phases_are_those_of_the_agent() -> None:
    """They are spelled out here, because an enum costs its import."""
    assert {int(code) for code in Exit} - {HANDLER} == {DONE, FAILED, TRY_AGAIN, CONFIG}
    assert {phase.value for phase in Phase} >= COMMITTING


@given(
    st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(timezone.utc))  # noqa: DTZ001  # with a zone beside it
)
def test_times_are_read_as_they_are_written(moment: datetime) -> None:
    """To the second."""
    at = unix_time(moment.isoformat())

    assert at == int(moment.replace(microsecond=0).timestamp())


@pytest.mark.parametrize(
    "text", [None, 5, "", "soon", "2026-11-21", "2026-11-21T10:00:00", "2026-xx-21T10:00:00+00:00"]
)
def test_anything_else_is_no_time(text: object) -> None:
    """Local times would be wrong by hours."""
    assert unix_time(text) is None
