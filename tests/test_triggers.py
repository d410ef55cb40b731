"""The operator's ``fio-rotate-certs``: once for each id, whatever happens in between."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from fioagent import agent
from fioagent.errors import AgentError
from fioagent.model import sha256_hex
from fioagent.rotation import memory
from fioagent.rotation.rotator import Outcome, Result
from tests.power import rotate_with
from tests.test_superseding import Unreachable
from tests.world import StoppedClock, World

NOW = datetime.now(timezone.utc).replace(microsecond=0)
DEAD_END = "https://localhost:1/.well-known/est"
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def trigger(world: World, identifier: str = "certs-7", *more: str, est: str | None = None) -> Path:
    """The file as a check-in extracts it."""
    path = Path(world.device.env["SECRETS_DIR"]) / "fio-rotate-certs"
    lines = [f"ESTSERVER={est or world.urls.est}", f"ROTATIONID={identifier}", *more]
    path.write_text("\n".join(lines) + "\n")
    return path


def run(world: World, at: datetime = NOW) -> Outcome:
    """``fioagent rotate``, as the supervisor starts it."""
    return world.rotate_at(at, now=False)


def wanted(world: World, at: datetime = NOW) -> dict[str, Any]:
    """What ``check-in --json`` tells the supervisor."""
    with agent.opened([], world.device.env, clock=StoppedClock(at)) as opened:
        return opened.wanted()


def issued(world: World) -> int:
    """Certificates that the EST server was asked for."""
    return len([r for r in world.factory.requests("est") if "/simplereenroll" in r.path])


def reinstall(world: World) -> None:
    """Nothing of the program's is left but what is in storage.path: reboot, new image."""
    for path in Path(world.device.env["SECRETS_DIR"]).iterdir():
        path.unlink()


def test_a_trigger_rotates_once(world: World) -> None:
    """Under the operator's id, by the operator's EST server; then never again."""
    trigger(world)
    assert wanted(world)["wanted"]
    world.factory.clear_requests()

    outcome = run(world)

    assert outcome.result is Result.COMPLETED
    assert world.live_pair()[1].name == "pkey.certs-7.pem"
    for hours in (0, 1, 24 * 400):
        assert not wanted(world, NOW + hours * HOUR)["wanted"]
        assert run(world, NOW + hours * HOUR).result is Result.NOTHING_TO_DO
    assert issued(world) == 1


def test_not_after_a_reboot_or_a_reinstallation_either(world: World) -> None:
    """The stock marker, the journals or our own note: one of them is enough."""
    trigger(world)
    run(world)

    for name in (None, "cert-rotation.state.completed", "fioagent/ended-000001-certs-7.journal"):
        if name is not None:
            (world.storage / name).unlink()
        reinstall(world)
        trigger(world)
        assert run(world).result is Result.NOTHING_TO_DO, name
        assert world.rotate("--id", "certs-7").out == "rotation certs-7 is done already\n"


def test_not_after_other_rotations_either(world: World) -> None:
    """The stock handler knows the last id alone, and asks again at the next boot."""
    trigger(world)
    run(world)
    world.set_setting("[rotation]\nissuances_per_day = 9")
    for number in range(2):
        assert world.rotate("--id", f"by-hand-{number}").code == 0
    live = world.live_pair()

    assert run(world).result is Result.NOTHING_TO_DO
    stock = world.fioagent("rotate", "--now", "--est-server", world.urls.est, "--id", "certs-7")

    assert (0, "rotation certs-7 is done already\n") == (stock.code, stock.out)
    assert world.rotate("--id", "by-hand-0").out == "rotation by-hand-0 is done already\n"
    assert live == world.live_pair()


def test_the_next_id_rotates_again(world: World) -> None:
    trigger(world)
    run(world)
    trigger(world, "certs-8")

    assert run(world).result is Result.COMPLETED
    assert world.live_pair()[1].name == "pkey.certs-8.pem"


def test_a_trigger_in_the_stored_configuration_counts(world: World) -> None:
    """Before anything is extracted, as after a boot without ``extract``."""
    world.factory.rotate_certs(world.uuid, rotation_id="certs-9")
    world.fetch_config()

    assert run(world).result is Result.COMPLETED
    assert world.live_pair()[1].name == "pkey.certs-9.pem"


def test_now_is_the_rotation_that_is_asked_for(world: World) -> None:
    """A technician who does not wait for the window does not make the device rotate twice."""
    trigger(world, "certs-7", "WINDOW=10d")
    assert run(world).result is Result.NOTHING_TO_DO

    assert world.rotate().code == 0

    assert world.live_pair()[1].name == "pkey.certs-7.pem"
    assert run(world, NOW + 11 * DAY).result is Result.NOTHING_TO_DO


# --- corrections ---


def test_a_corrected_file_with_the_same_id_is_tried_at_once(world: World) -> None:
    """It does not wait for the back-off of the address that was wrong."""
    trigger(world, est=DEAD_END)
    assert run(world).result is Result.TRY_AGAIN
    assert not wanted(world)["wanted"]
    trigger(world)
    assert wanted(world)["wanted"]

    assert run(world).result is Result.COMPLETED
    assert world.live_pair()[1].name == "pkey.certs-7.pem"
    ends = [name for name, _ in world.event_names() if name == "CertRotationCompleted"]
    assert len(ends) == 1


def test_a_corrected_file_with_another_id_takes_the_place_of_a_pending_one(world: World) -> None:
    trigger(world, est=DEAD_END)
    assert run(world).result is Result.TRY_AGAIN
    trigger(world, "certs-8")

    assert run(world).result is Result.COMPLETED
    assert world.live_pair()[1].name == "pkey.certs-8.pem"
    assert not wanted(world)["wanted"]


def test_another_id_waits_for_the_end_of_one_that_has_committed(world: World) -> None:
    """Then it is next; until then the open one keeps its own times."""
    assert rotate_with(world, Unreachable, "certs-7").result is Result.TRY_AGAIN
    trigger(world, "certs-8")
    assert not wanted(world, datetime.now(timezone.utc))["wanted"]

    assert run(world, NOW + HOUR).result is Result.COMPLETED
    assert world.live_pair()[1].name == "pkey.certs-7.pem"
    assert run(world, NOW + HOUR).result is Result.COMPLETED

    assert world.live_pair()[1].name == "pkey.certs-8.pem"
    world.check_reachable()


def test_a_refusal_is_the_end_of_this_file_but_not_of_a_corrected_one(world: World) -> None:
    """A comment is enough to be asked again."""
    world.factory.set_knob("est_answer", "403")
    path = trigger(world)
    assert run(world).result is Result.FAILED
    world.factory.set_knob("est_answer", "normal")
    world.factory.clear_requests()
    for days in (0, 1, 30):
        assert run(world, NOW + days * DAY).result is Result.NOTHING_TO_DO
    assert issued(world) == 0

    path.write_text(path.read_text() + "# again, please\n")

    assert run(world, NOW + 30 * DAY).result is Result.COMPLETED
    assert world.live_pair()[1].name == "pkey.certs-7.pem"


def test_what_was_cancelled_at_the_device_stays_cancelled(world: World) -> None:
    trigger(world, est=DEAD_END)
    run(world)
    assert world.fioagent("cancel").code == 0

    assert run(world, NOW + DAY).result is Result.NOTHING_TO_DO

    trigger(world)
    assert run(world, NOW + DAY).result is Result.COMPLETED


def test_a_file_that_is_taken_away_is_forgotten(world: World) -> None:
    trigger(world, "certs-7", "WINDOW=10d").unlink()

    assert run(world, NOW + 30 * DAY).result is Result.NOTHING_TO_DO


@pytest.mark.parametrize("begun", [True, False], ids=["by the trigger", "by hand"])
def test_an_address_that_a_technician_gave_is_not_taken_back(world: World, begun: bool) -> None:
    """The file's is wrong, and the person at the device knows the right one."""
    trigger(world, est=DEAD_END)
    if begun:
        assert run(world).result is Result.TRY_AGAIN
    world.factory.set_knob("est_answer", "500")
    assert world.rotate("--est-server", world.urls.est).code == 75
    world.factory.set_knob("est_answer", "normal")

    assert run(world, NOW + 2 * DAY).result is Result.COMPLETED
    assert world.live_pair()[1].name == "pkey.certs-7.pem"


# --- windows ---


def test_in_a_window_each_device_has_its_own_moment(new_world: Callable[[], World]) -> None:
    """The same whenever it looks, after a reboot too; at that moment it rotates."""
    moments = []
    for world in (new_world(), new_world()):
        trigger(world, "certs-7", "WINDOW=24h")
        first = wanted(world)
        assert not first["wanted"]
        at = datetime.fromisoformat(first["next_at"])
        assert NOW <= at < NOW + DAY
        reinstall(world)
        trigger(world, "certs-7", "WINDOW=24h")
        assert wanted(world, at - timedelta(seconds=1))["next_at"] == first["next_at"]
        early = run(world, at - timedelta(seconds=1))
        assert early.result is Result.NOTHING_TO_DO
        assert "the turn of this device is at" in early.message
        moments.append(at)

    assert wanted(world, at)["wanted"]
    assert run(world, at).result is Result.COMPLETED
    assert moments[0] != moments[1]


def test_a_start_in_the_file_is_waited_for(world: World) -> None:
    start = NOW + 5 * DAY
    trigger(world, "certs-7", "WINDOW=2h", f"START={start:%Y-%m-%dT%H:%M:%SZ}")

    at = datetime.fromisoformat(wanted(world)["next_at"])

    assert start <= at < start + 2 * HOUR


def test_the_window_may_be_a_setting(world: World) -> None:
    """For triggers of a fioctl that does not know of it; a file that says 0 is in a hurry."""
    world.set_setting('[rotation]\nwindow = "24h"')
    trigger(world)
    assert not wanted(world)["wanted"]

    trigger(world, "certs-7", "WINDOW=0")

    assert wanted(world)["wanted"]


def test_a_busy_server_and_a_window_act_together(world: World) -> None:
    """Its Retry-After is kept; then the device comes within twice the window, with the others."""
    trigger(world, "certs-7", "WINDOW=24h")
    at = datetime.fromisoformat(wanted(world)["next_at"])
    world.factory.set_knob("est_answer", "503")
    world.factory.set_knob("est_retry_after_s", "7200")
    assert run(world, at).result is Result.TRY_AGAIN
    world.factory.set_knob("est_answer", "normal")

    again = datetime.fromisoformat(wanted(world, at)["next_at"])

    assert at + 2 * HOUR <= again <= at + 2 * DAY
    assert run(world, again - timedelta(seconds=1)).result is Result.TRY_AGAIN
    assert run(world, again).result is Result.COMPLETED


def test_a_server_that_works_on_it_is_asked_when_it_said(world: World) -> None:
    """202: some CAs answer so to everybody, and do not keep a request for days."""
    trigger(world, "certs-7", "WINDOW=24h")
    at = datetime.fromisoformat(wanted(world)["next_at"])
    world.factory.set_knob("est_answer", "202")
    world.factory.set_knob("est_retry_after_s", "600")
    assert run(world, at).result is Result.TRY_AGAIN
    world.factory.set_knob("est_answer", "normal")

    again = datetime.fromisoformat(wanted(world, at)["next_at"])

    assert at + HOUR / 6 <= again <= at + HOUR / 4
    assert run(world, again).result is Result.COMPLETED


# --- what cannot be used ---


def test_a_damaged_file_is_told_and_holds_up_nothing_else(world: World) -> None:
    """By name; the schedule goes on, and so does a rotation by hand."""
    trigger(world, "certs-7", "WINDOW=soon")
    complaint = "cannot use fio-rotate-certs: WINDOW is 'soon': it is no duration"

    ran = world.fioagent("rotate")

    assert ran.code == 78
    assert complaint in ran.err
    assert complaint in wanted(world)["problem"]
    assert complaint in world.fioagent("status").out
    world.set_setting('[rotation]\ndue_at = 1e-15\nspread = "0s"')
    assert run(world, NOW + HOUR).result is Result.COMPLETED


def test_a_name_that_is_not_known_is_told(world: World) -> None:
    """A typo in WINDOW is seen before the fleet has come."""
    trigger(world, "certs-7", "START=2099-01-01T00:00:00Z", "WINOW=24h")

    status = world.fioagent("status")

    assert "WINOW" in status.out
    assert "(trigger)" in status.out
    assert json.loads(world.fioagent("status", "--json").out)["wanted"]["id"] == "certs-7"


def test_a_device_that_cannot_begin_does_not_try_at_every_check_in(world: World) -> None:
    """A gateway without rotation: told each time, asked ever more rarely."""
    world.factory.set_knob("config_device", "404")
    trigger(world)
    asked = []
    for minutes in range(0, 24 * 60, 5):
        at = NOW + timedelta(minutes=minutes)
        world.factory.clear_requests()
        if wanted(world, at)["wanted"]:
            with pytest.raises(AgentError, match="does not support rotation"):
                run(world, at)
        asked.append(len(world.factory.requests("gateway")))
    assert 5 < sum(map(bool, asked)) < 24

    held = run(world, NOW + DAY)
    assert held.result is Result.TRY_AGAIN
    assert "does not support rotation" in held.message
    world.factory.set_knob("config_device", "on")
    assert run(world, NOW + 2 * DAY).result is Result.COMPLETED
    assert not (world.storage / "fioagent" / "setback.json").exists()


def test_a_corrected_file_does_not_wait_for_the_setback_of_the_old_one(world: World) -> None:
    world.factory.set_knob("config_device", "404")
    trigger(world)
    with pytest.raises(AgentError):
        run(world)
    assert not wanted(world)["wanted"]

    trigger(world, "certs-8")

    assert wanted(world)["wanted"]


def test_what_takes_the_place_of_a_rotation_begins_without_its_setback(world: World) -> None:
    world.factory.set_knob("est_answer", "500")
    assert world.rotate("--id", "certs-1").code == 75
    note = world.storage / "fioagent" / "setback.json"
    note.write_bytes(b'{%s, "failures": 3}' % _CAUSE)
    world.factory.set_knob("est_answer", "normal")

    ran = world.rotate("--id", "certs-2")

    assert ran.code == 0, ran.err
    assert [journal.split("-")[-1] for journal in world.journal_names()] == [
        "1.journal",
        "2.journal",
    ]
    assert not note.exists()


def test_a_trigger_is_a_word_to_go_on_without_a_damaged_journal(world: World) -> None:
    """As the same id by hand is."""
    world.pause_before_the_commit("certs-1")
    journal = world.storage / "fioagent" / "rotation.journal"
    journal.write_bytes(journal.read_bytes().replace(b'"locked"', b'"l0cked"'))
    assert world.fioagent("rotate").code == 78
    trigger(world)
    assert wanted(world)["wanted"]

    assert run(world).result is Result.COMPLETED
    world.check_reachable()


_CAUSE = b'"cause": "schedule", "at": "2026-11-01T00:00:00+00:00", "reason": ""'


def test_a_note_whose_time_has_no_zone_says_nothing(world: World) -> None:
    """It cannot be compared with the clock; a check-in must not end by it."""
    digest = sha256_hex(trigger(world).read_bytes())
    note = {"id": "certs-7", "sha256": digest, "seen_at": "2026-11-01T00:00:00"}
    (world.storage / "fioagent").mkdir()
    (world.storage / "fioagent" / "trigger.json").write_text(json.dumps(note))

    assert wanted(world)["wanted"] is True


@pytest.mark.parametrize("count", [0, -5, 10**30])
def test_a_count_that_is_none_is_brought_to_reason(world: World, count: int) -> None:
    """Waits are computed from it."""
    (world.storage / "fioagent").mkdir()
    noted = b'{%s, "failures": %d}' % (_CAUSE, count)
    (world.storage / "fioagent" / "setback.json").write_bytes(noted)

    with agent.opened([], world.device.env) as opened:
        found = memory.setback(opened.device)

    assert found is not None
    assert 1 <= found.failures <= 1000


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b'{"id": 1}', b"\xff\xff"),
        b'{%s, "failures": Infinity}' % _CAUSE,
    ],
)
def test_notes_that_are_damaged_hold_up_nothing(world: World, content: bytes) -> None:
    (world.storage / "fioagent").mkdir()
    for name in ("trigger.json", "setback.json"):
        (world.storage / "fioagent" / name).write_bytes(content)
    trigger(world)

    assert run(world).result is Result.COMPLETED
