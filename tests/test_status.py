"""``fioagent status``: three answers first, in every state that a device can be in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from fioagent import agent, metrics, statuswords
from fioagent.disk import LocalDisk
from fioagent.outlook import Status
from fioagent.rotation.machine import Phase
from tests import documented
from tests.power import cut_at
from tests.test_retry import NOW
from tests.test_rotation import FORWARD
from tests.world import StoppedClock, World

DAY = timedelta(days=1)


def answers(world: World) -> list[str]:
    """The first three lines, checked to be what they have to be."""
    ran = world.fioagent("status")
    first = ran.out.splitlines()[:4]
    assert [line[:13].strip() for line in first] == ["safe today", "next", "needs you", ""]
    assert all(len(line) < 80 for line in first)
    assert ran.fits(world.storage)
    return [line[13:] for line in first[:3]]


def looked_at(world: World, at: datetime) -> Status:
    """With a clock that says ``at``."""
    with agent.opened([], world.device.env, clock=StoppedClock(at)) as opened:
        return opened.status()


def first_lines(status: Status) -> list[str]:
    return [line[13:] for line in list(statuswords.status(status))[:3]]


def test_a_device_with_nothing_under_way(world: World) -> None:
    """Nobody is needed, and it says until when."""
    safe, following, person = answers(world)

    assert re.fullmatch(
        r"yes: the certificate is valid until 20\d\d-\d\d-\d\d \d\d:\d\d UTC, \d+ d", safe
    )
    assert re.fullmatch(
        r"in \d+ d, 20\d\d-\d\d-\d\d \d\d:\d\d UTC: rotation by schedule", following
    )
    assert person == "no"
    assert world.fioagent("status", "--short").out == f"device: safe; next {following}\n"


def test_each_phase_at_work_and_after_a_power_cut(world: World) -> None:
    """Safe in all of them; whoever is at work is named, and afterwards what goes on."""
    for phase in FORWARD[:-1]:
        at_work: list[list[str]] = []

        cut_at(world, Phase(phase), "certs-1", lambda: at_work.append(answers(world)))  # noqa: B023

        after = answers(world)
        assert re.fullmatch(r"now: fioagent rotate \(process \d+\) is at work", at_work[0][1])
        assert after[1] == "at the service's next look: certs-1 goes on"
        for safe, _, person in (at_work[0], after):
            assert safe.startswith("yes: the certificate is valid until 20")
            assert person == "no"


def test_nobody_is_at_work_once_the_lock_is_free(world: World) -> None:
    """The file that is locked goes on naming who had it last."""
    (world.storage / "fioagent").mkdir()
    path = str(world.storage / "fioagent" / "lock")
    with LocalDisk().lock(path, "rotate"):
        held = world.fioagent("status", "--json").lines[0]["at_work"]

    assert held.startswith("fioagent rotate (process ")
    assert world.fioagent("status", "--json").lines[0]["at_work"] is None


def reverting(world: World) -> None:
    world.pause_before_the_commit("certs-1")
    world.make_the_gateway_forget_the_new_key()
    cut_at(world, Phase.REVERTING, "certs-1")
    assert world.fioagent("recover").code == 0


def abandoned(world: World) -> None:
    world.factory.set_knob("est_answer", "403")
    assert world.rotate("--id", "certs-1").code == 1


def cancelled(world: World) -> None:
    cut_at(world, Phase.BEGUN, "certs-1")
    assert world.fioagent("cancel").code == 0


def waiting(world: World) -> None:
    world.factory.set_knob("est_answer", "500")
    assert world.rotate("--id", "certs-1").code == 75


def held_by_the_gateway(world: World) -> None:
    world.factory.add_fault("status", server="gateway", method="PATCH", path="/config", status=403)
    assert world.rotate("--id", "certs-1").code == 75


def damaged(world: World) -> None:
    cut_at(world, Phase.LOCKED, "certs-1")
    (world.storage / "fioagent" / "rotation.journal").write_bytes(b"x")


def without_a_key(world: World) -> None:
    (world.storage / "pkey.pem").unlink()


STATES: list[tuple[Callable[[World], None], int, str, str, str]] = [
    (reverting, 0, "yes: ", "at the service's next look: certs-1 goes on", "no"),
    (abandoned, 0, "yes: ", "in ", "YES: cannot enrol: localhost:"),
    (cancelled, 0, "yes: ", "in ", "no"),
    (waiting, 0, "yes: ", "in ", "no"),
    (held_by_the_gateway, 0, "yes: ", "in ", "YES: "),
    (damaged, 78, "yes: ", "nothing, before that is mended", "YES: cannot read the journal "),
    (without_a_key, 78, "NO: cannot read ", "nothing, ", "YES: cannot read "),
]


@pytest.mark.parametrize(
    ("make", "code", "safe", "following", "person"), STATES, ids=[row[0].__name__ for row in STATES]
)
def test_each_state(  # noqa: PLR0917  # a row of the table
    world: World, make: Callable[[World], None], code: int, safe: str, following: str, person: str
) -> None:
    """Whoever needs nobody says no; whoever does says what to do, in every form."""
    make(world)

    found = answers(world)

    assert [found[0][: len(safe)], found[1][: len(following)]] == [safe, following]
    assert found[2].startswith(person)
    ran, short = world.fioagent("status"), world.fioagent("status", "--short")
    assert (ran.code, short.code) == (code, code)
    assert ("\ndo           " in ran.out) == person.startswith("YES")
    assert ("NEEDS YOU" in short.out) == person.startswith("YES")
    assert len(short.out.splitlines()) == 1
    assert len(short.out) <= 80
    said = world.fioagent("status", "--json").lines[0]
    documented.check(said, "`status`")
    assert said["needs_person"]["yes"] == person.startswith("YES")
    assert said["safe"]["yes"] == safe.startswith("yes")
    assert ("\nfioagent_safe 1\n" in world.fioagent("status", "--prometheus").out) == (
        said["safe"]["yes"]
    )


def test_a_device_that_the_gateway_refuses_altogether_is_not_safe(world: World) -> None:
    """Neither the new nor the old pair: the gateway's own word, remembered."""
    world.pause_before_the_commit("certs-1")
    cut_at(world, Phase.COMMITTED, "certs-1")
    world.factory.add_fault("status", server="gateway", status=403)
    assert world.rotate().code == 78

    safe, _, person = answers(world)

    assert safe.startswith("NO: the gateway refuses the old and the new credential")
    assert person.startswith("YES: the gateway refuses the old and the new credential")
    assert "the operator has to look at this device's keys" in world.fioagent("status").out


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (
            datetime(1970, 1, 1, 0, 3, tzinfo=NOW.tzinfo),
            [
                "unknown: the clock says 1970-01-01 00:03 UTC, which cannot be",
                "nothing, before the clock is right",
                "YES: the clock is wrong",
            ],
        ),
        (
            NOW + 9000 * DAY,
            [
                "NO: the certificate has expired on ",
                "at the service's next look: rotation by schedule",
                "YES: the certificate has expired",
            ],
        ),
    ],
    ids=["a clock of 1970", "an expired certificate"],
)
def test_by_the_clock(world: World, at: datetime, expected: list[str]) -> None:
    """What cannot be known is not said; what is over is."""
    status = looked_at(world, at)

    found = first_lines(status)

    assert [line[: len(start)] for line, start in zip(found, expected, strict=True)] == expected
    assert ("\nfioagent_safe " not in "\n".join(metrics.of(status))) == found[0].startswith("unk")


def test_a_certificate_that_runs_out_while_a_server_is_down_needs_somebody(world: World) -> None:
    """Weeks before it nobody; in its last tenth a person."""
    waiting(world)
    status = looked_at(world, NOW + DAY)
    assert status.certificate is not None

    last = looked_at(world, status.certificate.not_after - 3 * DAY)

    assert first_lines(status)[2] == "no"
    assert first_lines(last)[2].startswith("YES: the certificate expires soon, and cannot enrol")


def test_what_could_not_begin_by_itself_is_told(world: World) -> None:
    """There is no journal of it; the remedy is what the error said."""
    world.set_setting('[rotation]\ndue_at = 1e-15\nspread = "0s"')
    world.factory.set_knob("config_device", "404")
    assert world.fioagent("rotate").code == 1

    assert answers(world)[2].startswith("YES: cannot rotate: this gateway does not support")


def test_without_sota_toml_there_is_a_metric_all_the_same(world: World) -> None:
    """An alarm on it is heard; the exit status tells, too."""
    world.sota_toml.unlink()

    ran = world.fioagent("status", "--prometheus")

    assert ran.code == 78
    assert {"fioagent_safe 0", "fioagent_needs_person 1"} < set(ran.out.splitlines())


def test_one_form_at_a_time(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        world.fioagent("status", "--short", "--json")

    assert ended.value.code == 2
    capsys.readouterr()


_SAMPLE = re.compile(r'(fioagent_[a-z_]+)(?:\{([a-z]+="[^"\\\n]*",?)+\})? (-?[0-9.e+]+)')


def samples(world: World) -> dict[str, list[Any]]:
    """Values by name, of output that is checked to be of the text format."""
    ran = world.fioagent("status", "--prometheus")
    found: dict[str, list[Any]] = {}
    told: list[str] = []
    for line in ran.out.splitlines():
        if line.startswith("# HELP "):
            told.append(line.split()[2])
        elif line.startswith("# TYPE "):
            assert line == f"# TYPE {told[-1]} gauge"
        else:
            sample = _SAMPLE.fullmatch(line)
            assert sample is not None, line
            assert sample[1] == told[-1]
            found.setdefault(sample[1], []).append(float(sample[3]))
    assert len(told) == len(set(told))
    return found


def test_metrics_of_a_rotation_that_waits_and_of_one_that_is_done(world: World) -> None:
    """Names are documented, all of them; times are unix time in seconds."""
    waiting(world)
    before = samples(world)
    world.factory.set_knob("est_answer", "normal")
    assert world.rotate().code == 0
    after = samples(world)

    names = {row[0].strip("`") for row in documented.table("For Prometheus")}
    assert names == set(metrics.HELP) == set(before) | set(after)
    assert (before["fioagent_rotation_open"], after["fioagent_rotation_open"]) == ([1], [0])
    assert before["fioagent_rotation_failures"] == [1]
    assert (sum(before["fioagent_rotation_phase"]), sum(after["fioagent_rotation_phase"])) == (1, 0)
    assert after["fioagent_last_rotation_success"] == [1]
    until = world.certificate().not_valid_after_utc.timestamp()
    assert after["fioagent_certificate_not_after_timestamp_seconds"] == [until]
    assert abs(after["fioagent_last_rotation_end_timestamp_seconds"][0] - NOW.timestamp()) < 7200


def test_members_for_programs(world: World) -> None:
    """Those of the objects in it are as documented, too."""
    waiting(world)
    said = json.loads(world.fioagent("status", "--json").out)

    rows = {row[0].strip("`"): row[2] for row in documented.table("`status`")}
    for name in ("safe", "next", "needs_person", "certificate", "key", "rotation"):
        assert [key for key in said[name] if f"`{key}`" not in rows[name]] == [], name
