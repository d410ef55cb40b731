"""When a rotation is tried again, and how often: a bad week strands and wears out nothing."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from fioagent import agent
from fioagent.errors import TemporaryError
from fioagent.factory import Factory
from fioagent.ports import Moment
from fioagent.rotation.counting import MAX_PAUSES
from fioagent.rotation.policy import FREE_SILENT_RUNS
from fioagent.rotation.rotator import Result
from tests.power import PowerCutError, StopAt, rotate
from tests.test_power_cuts import check_finished
from tests.test_rotation import SUCCESS
from tests.world import World

NOW = datetime.now(timezone.utc).replace(microsecond=0)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
INTERRUPTED = (
    "fioagent: interrupted; the same command may be given again\n"
    "  certs-1 is open at begun, the old certificate is live; 'fioagent rotate --now' goes on\n"
)


def test_a_failure_is_not_tried_again_at_once(world: World) -> None:
    """A timer may call every minute; a technician with --now does not wait."""
    world.factory.set_knob("est_answer", "500")
    assert world.rotate_at(NOW, "certs-1").result is Result.TRY_AGAIN
    world.factory.clear_requests()

    waiting = world.rotate_at(NOW + timedelta(seconds=1), now=False)

    assert waiting.result is Result.TRY_AGAIN
    assert "answered 500" in waiting.message
    assert "next try at" in waiting.message
    assert world.factory.requests("est") == []
    world.factory.set_knob("est_answer", "normal")
    assert world.rotate_at(NOW + timedelta(minutes=2), now=False).result is Result.COMPLETED


def test_now_does_not_wait(world: World) -> None:
    world.factory.set_knob("est_answer", "500")
    world.rotate_at(NOW, "certs-1")
    world.factory.set_knob("est_answer", "normal")

    assert world.rotate_at(NOW + timedelta(seconds=1)).result is Result.COMPLETED


def test_status_says_when_it_is_tried_again(world: World) -> None:
    world.factory.set_knob("est_answer", "500")
    world.rotate("--id", "certs-1")

    assert "next try: 2" in world.fioagent("status").out
    assert world.fioagent("status", "--json").lines[0]["rotation"]["next_try_at"]


@pytest.mark.parametrize("before_commit", [True, False], ids=["before the commit", "at EST"])
def test_a_server_that_is_down_for_a_week(world: World, before_commit: bool) -> None:
    """Asked ever more rarely; told once; the journal does not grow; then it finishes."""
    knob = "gateway_patch_config" if before_commit else "est_answer"
    normal = world.factory.knobs()[knob]
    world.factory.set_knob(knob, "500")
    assert world.rotate_at(NOW, "certs-1").result is Result.TRY_AGAIN
    world.factory.clear_requests()
    journal = world.storage / "fioagent" / "rotation.journal"
    sizes = []

    for minute in range(0, 7 * 24 * 60, 20):
        outcome = world.rotate_at(NOW + timedelta(minutes=minute), now=False)
        assert outcome.result is Result.TRY_AGAIN
        sizes.append(journal.stat().st_size)

    server, path = ("gateway", "/config") if before_commit else ("est", "/simplereenroll")
    tried = [r for r in world.factory.requests(server) if r.method != "GET" and path in r.path]
    assert 20 < len(tried) < (7 * 48 if before_commit else 7 * 10)
    assert sizes[-1] < sizes[0] + 400
    assert [name for name, ok in world.event_names() if not ok] == [
        SUCCESS[4 if before_commit else 1][0]
    ]
    world.check_reachable()
    world.factory.set_knob(knob, normal)
    assert world.rotate_at(NOW + 8 * DAY, now=False).result is Result.COMPLETED
    world.check_nothing_left_behind()
    assert ("CertRotationCompleted", True) == world.event_names()[-1]


def test_failures_that_each_say_something_else_do_not_fill_the_disk(world: World) -> None:
    """A server that puts a new request id into each refusal."""
    journal = world.storage / "fioagent" / "rotation.journal"
    for number in range(60):
        address = f"https://host-{number}.invalid:1/.well-known/est"
        assert world.rotate("--id", "certs-1", "--est-server", address).code == 75

    records = journal.read_bytes().count(b'"pause"')
    assert records <= MAX_PAUSES + 1
    assert len(world.fioagent("status").out) < 2000


def test_a_run_that_dies_again_and_again_is_tried_more_rarely(world: World) -> None:
    """A module that crashes the process, or a supply that breaks down under load."""
    for _ in range(FREE_SILENT_RUNS + 2):
        with pytest.raises(PowerCutError):
            rotate(world, StopAt("before reenroll"), "certs-1")

    ran = world.fioagent("rotate")

    assert ran.code == 75
    assert "ended without a word" in ran.err
    assert "next try at" in ran.err
    world.check_reachable()
    assert world.rotate_at(datetime.now(timezone.utc) + DAY, now=False).result is Result.COMPLETED
    check_finished(world)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_stopped_in_good_order_is_no_crash(
    world: World, number: signal.Signals
) -> None:
    """The service is restarted, or a person is impatient: as often as they like."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        server = f"https://localhost:{mute.getsockname()[1]}/.well-known/est"
        for _ in range(FREE_SILENT_RUNS + 2):
            command = ["rotate", "--now", "--id", "certs-1", "--est-server", server]
            process = world.started(*command)
            connection, _ = mute.accept()  # it waits for an answer from here on
            process.send_signal(number)
            _, told = process.communicate(timeout=60)
            connection.close()
            assert (process.returncode, told) == (75, INTERRUPTED)

    assert b'"run"' not in (world.storage / "fioagent" / "rotation.journal").read_bytes()
    wanted = world.fioagent("status", "--json").lines[0]["wanted"]
    assert (wanted["wanted"], wanted["why"]) == (True, "open")


def test_a_run_that_took_too_long_counts_as_one_that_died(world: World) -> None:
    """The service ends it so; else what hangs would be tried every hour for ever."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        server = f"https://localhost:{mute.getsockname()[1]}/.well-known/est"
        for _ in range(2):  # the first begins it, the second goes on
            command = ["rotate", "--now", "--id", "certs-1", "--est-server", server]
            process = world.started(*command)
            connection, _ = mute.accept()
            process.send_signal(signal.SIGALRM)
            process.communicate(timeout=60)
            connection.close()
            assert process.returncode == -signal.SIGALRM

    assert b'"run"' in (world.storage / "fioagent" / "rotation.journal").read_bytes()


def test_progress_and_pauses_are_no_crashes(world: World) -> None:
    """Only runs that left neither count."""
    world.factory.set_knob("est_answer", "500")
    for _ in range(FREE_SILENT_RUNS + 3):
        assert world.rotate("--id", "certs-1").code == 75
    world.factory.set_knob("est_answer", "normal")
    for point in ("before set_next_key", "before patch_config", "before check", "before restart"):
        with pytest.raises(PowerCutError):
            rotate(world, StopAt(point), "certs-1")

    assert world.fioagent("rotate").code == 0


def test_a_ca_is_not_asked_without_end(world: World) -> None:
    """However wrong the script is that calls us."""
    for number in range(6):
        assert world.rotate("--id", f"certs-{number}").code == 0
    world.factory.clear_requests()

    ran = world.rotate("--id", "certs-6")

    assert ran.code == 75
    assert "cannot begin a rotation: 6 certificates were requested within a day" in ran.err
    assert world.factory.requests("est") == []
    tomorrow = datetime.now(timezone.utc) + DAY + HOUR
    assert world.rotate_at(tomorrow, "certs-6").result is Result.COMPLETED


def test_the_count_is_a_setting(world: World) -> None:
    world.set_setting("[rotation]\nissuances_per_day = 1")
    assert world.rotate("--id", "certs-1").code == 0

    assert world.rotate("--id", "certs-2").code == 75


# --- clocks ---


class JumpingClock:
    """``ports.Clock`` that says something else whenever it is asked."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)  # noqa: S311  # repeatable, not secret

    def now(self) -> datetime:
        wrong = (datetime(1970, 1, 1, tzinfo=timezone.utc), NOW + 9000 * DAY, NOW - 200 * DAY)
        at = self._draw.choice([*wrong, *[NOW] * 9])
        return at + timedelta(seconds=self._draw.randrange(10**6))

    def image_time(self) -> datetime | None:
        return None

    def moment(self) -> Moment:
        return Moment("", self._draw.randrange(10**12))


@pytest.mark.parametrize("seed", range(12))
def test_a_clock_that_jumps_between_any_two_steps(world: World, seed: int) -> None:
    """To 1970, decades ahead, and back, between any two looks at it; it gets there at last."""
    clock = JumpingClock(seed)
    for number in range(8):
        with (
            contextlib.suppress(TemporaryError),
            agent.opened([], world.device.env, clock=clock) as opened,
        ):
            opened.rotate(now=True, est_url=None, rotation_id=None, watch=lambda _: None)
        world.check_reachable()
        world.check_every_value_opens_with_a_key_at_hand()
        assert number < 7 or world.event_names()
    outcome = world.rotate_at(NOW)

    assert outcome.result is Result.COMPLETED
    world.check_nothing_left_behind()


def test_a_clock_that_is_behind_waits_for_time_and_not_for_a_person(world: World) -> None:
    """The certificate that is issued now is not valid for a device that lives last year."""
    world.factory.set_knob("est_issue", "not-yet-valid")

    ran = world.rotate("--id", "certs-1")

    assert ran.code == 75
    assert "it is valid from" in ran.err
    assert "wait for time synchronisation, or set the clock" in ran.err
    world.check_reachable()
    world.factory.set_knob("est_issue", "normal")
    assert world.rotate().code == 0


# --- the network changes ---


def test_the_gateway_moves_to_another_name_and_address_family(tmp_path: Path) -> None:
    """Between the lock and the commit: from IPv4 under a name to IPv6 under its address."""
    factory = Factory.create(tmp_path / "lab")
    with factory.serving() as urls:
        world = World(factory, urls, tmp_path / "device")
        world.give_config()
        world.pause_before_the_commit("certs-1")
    with factory.serving({"gateway": ("::1", 0)}) as moved:
        text = world.sota_toml.read_text()
        world.sota_toml.write_text(text.replace(urls.gateway, moved.gateway))
        assert moved.gateway.startswith("https://[::1]")
        world.urls = moved
        settings = Path(world.device.env["FIOAGENT_CONFIG"])
        settings.write_text(settings.read_text().replace(urls.est, moved.est))

        ran = world.rotate()

        assert ran.code == 0, ran.err
        check_finished(world, world.event_names())
        assert ("CertRotationCompleted", True) == world.event_names()[-1]
