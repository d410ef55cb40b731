"""``fioagent log``: a rotation's story out of the device's own journal, whatever happened in it."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import pytest

from fioagent import story
from fioagent.rotation import machine
from fioagent.rotation.machine import Kind, Phase, Record
from fioagent.statuswords import span
from tests import documented
from tests.power import cut_at
from tests.test_retry import NOW
from tests.test_rotation import FORWARD
from tests.test_status import abandoned, damaged, held_by_the_gateway, reverting, waiting
from tests.unit import histories
from tests.world import World


def lines(world: World, *arguments: str) -> list[str]:
    """What is printed, folds taken out, each line with its time of day and its wait away."""
    ran = world.fioagent("log", *arguments)
    assert ran.code == 0, ran.err
    assert ran.fits(world.storage)
    clock = re.compile(r"\d\d:\d\d:\d\d {2}(?: {12}|[ +].{11}) {2}")
    return [clock.sub("", line, count=1) for line in ran.unfolded.splitlines()]


def test_there_is_none_yet(world: World) -> None:
    assert world.fioagent("log").out == "no rotation is in the journal yet\n"
    assert world.fioagent("log", "--json").lines == [{"event": "end", "result": "none"}]


def test_a_rotation_that_was_cut_in_every_phase(world: World) -> None:
    """What was reached, that it went on after each cut, and the proof."""
    for phase in FORWARD[:-1]:
        cut_at(world, Phase(phase), "certs-1")
    assert world.rotate("--id", "certs-1").code == 0

    header, server, day, *said = lines(world)

    assert (header, server) == ("rotation certs-1", f"EST server {world.urls.est}")
    assert re.fullmatch(r"20\d\d-\d\d-\d\d UTC", day)
    told = [line.partition(": ")[0] for line in said]
    goes_on = "goes on after a power cut, a restart or a stop"
    expected = [entry for phase in FORWARD for entry in (phase, goes_on)][:-1]
    assert told[: len(expected)] == expected
    assert re.fullmatch(r"completed after [\d.]+ (s|min.*)", said[len(expected)])
    assert said[-1].startswith("old serial ")
    assert said[-1].endswith(" destroyed")


def test_failures_are_counted_and_dated(world: World) -> None:
    """A week of them is one line."""
    waiting(world)
    assert world.rotate().code == 75

    (line,) = [line for line in lines(world) if line.startswith("cert-issued not reached: ")]

    assert "answered 500" in line
    assert re.search(r"\(2 times, the last at 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC\)$", line)
    said = " ".join(lines(world)[-2:])
    assert said.startswith("open at key-generated, the old certificate is live, next try 20")


def test_one_that_was_turned_back(world: World) -> None:
    """Why, and that the old certificate is live."""
    reverting(world)

    said = lines(world)

    assert any(line.startswith("reverting: ") for line in said)
    assert said[-1] == "open at reverting, the old certificate is live"
    assert world.rotate().code == 1
    assert any("abandoned after" in line for line in lines(world))


def test_one_that_was_refused(world: World) -> None:
    abandoned(world)

    said = lines(world)

    assert any(line.startswith("abandoned: cannot enrol: ") for line in said)
    assert any(re.fullmatch(r"abandoned after .*; the old certificate is live", s) for s in said)


def test_one_by_its_id_and_the_others_by_name(world: World) -> None:
    """Without an id the open one comes first, then the latest; what there is not is said."""
    assert world.rotate("--id", "certs-1").code == 0
    assert world.rotate("--id", "certs-2").code == 0
    world.factory.set_knob("est_answer", "500")
    assert world.rotate("--id", "certs-3").code == 75

    assert lines(world)[0] == "rotation certs-3"
    assert lines(world)[-3:] == [
        "others in the journal, 'fioagent log ID':",
        "  certs-2",
        "  certs-1",
    ]
    assert lines(world, "certs-1")[0] == "rotation certs-1"
    missing = world.fioagent("log", "certs-9")
    assert missing.code == 78
    assert missing.err == (
        "fioagent: cannot find the rotation certs-9 in the journal\n"
        "  in it are: certs-3, certs-2, certs-1; the last ten that ended are kept\n"
    )


def test_a_damaged_journal_hides_no_other(world: World) -> None:
    """Its own story cannot be told, and it is said what to do."""
    assert world.rotate("--id", "certs-0").code == 0
    damaged(world)

    ran = world.fioagent("log")

    assert ran.code == 78
    assert ran.err.startswith("fioagent: cannot read the journal ")
    assert lines(world, "certs-0")[0] == "rotation certs-0"


def test_lines_for_programs_have_the_documented_forms(world: World) -> None:
    """Of one that is open and of one that is done: each record of the journal, none left out."""
    held_by_the_gateway(world)
    waits = world.fioagent("log", "--json").lines
    world.factory.clear_faults()
    assert world.rotate().code == 0
    done = world.fioagent("log", "--json").lines

    for first, *records, end in (waits, done):
        documented.check(first, "`log`: the rotation")
        for record in records:
            documented.check(record, "`log`: a record")
        documented.check(end, "`log`: the end")
    assert [end["result"] for end in (waits[-1], done[-1])] == ["open", "completed"]
    assert {record["kind"] for record in (*waits[1:-1], *done[1:-1])} == set(
        map(str, ("phase", "attempt", "pause", "run", "reported"))
    )
    assert "csr" not in str(done)
    assert "event_seed" not in str(done)


def test_a_clock_that_was_set_back_is_told() -> None:
    """And another day has its date."""
    records = [
        histories.reached(Phase.BEGUN),
        histories.reached(Phase.KEY_GENERATED, after_s=86_400),
        Record(Kind.RUN, histories.AT - timedelta(days=2), facts={"times": 4}),
    ]
    rotation = machine.fold(records)
    assert rotation is not None

    said = list(story.told(records, rotation))

    assert "2026-11-02 UTC" in said
    assert "the clock was set back by 3 d 0 h" in said
    assert any("goes on after a power cut, a restart or a stop (4" in line for line in said)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-5, "0.0 s"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (10, "10 s"),
        (59.4, "59 s"),
        (59.9, "59 s"),
        (61, "1 min 1 s"),
        (3599, "59 min"),
        (3600, "1 h 0 min"),
        (90_000, "1 d 1 h"),
        (864_000, "10 d"),
    ],
)
def test_spans_have_the_units_that_matter(seconds: float, said: str) -> None:
    """Never 60 of the smaller one."""
    assert span(timedelta(seconds=seconds)) == said


def test_the_story_is_of_the_devices_clock(world: World) -> None:
    """UTC, whatever the zone of the console."""
    at = NOW.replace(hour=3, minute=4, second=5)
    world.factory.set_knob("est_answer", "500")
    world.rotate_at(at, "certs-1")

    ran = world.fioagent("log", environ={"TZ": "Asia/Tokyo"})

    assert f"{at:%Y-%m-%d} UTC\n03:04:05 " in ran.out
    assert at.astimezone(timezone.utc) == datetime.fromisoformat(
        world.fioagent("log", "--json").lines[0]["begun_at"]
    )
