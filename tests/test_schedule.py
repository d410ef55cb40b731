"""Rotation by the certificate's life: spread, denser to its end, never by a wrong clock."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fioagent import agent
from fioagent.errors import ConfigError
from fioagent.rotation.rotator import Outcome, Result
from fioagent.words import meaning
from tests.test_check_in import entry_as_sealed
from tests.test_triggers import trigger
from tests.world import BUNDLE, StoppedClock, World

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
AT_ONCE = '[rotation]\ndue_at = 0.5\nspread = "0s"'


def run(world: World, at: datetime) -> Outcome:
    """``fioagent rotate``, as the supervisor starts it."""
    return world.rotate_at(at, now=False)


def wanted(world: World, at: datetime) -> dict[str, Any]:
    with agent.opened([], world.device.env, clock=StoppedClock(at)) as opened:
        return opened.wanted()


def life(world: World) -> tuple[datetime, datetime]:
    """Of the live certificate."""
    certificate: x509.Certificate = world.certificate()
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc


def half(world: World) -> datetime:
    not_before, not_after = life(world)
    return not_before + (not_after - not_before) / 2


@pytest.fixture
def soon(world: World) -> World:
    """A device with a certificate of ten days."""
    world.factory.set_knob("est_validity_days", "10")
    assert world.rotate("--id", "first").code == 0
    return world


def test_a_device_is_due_at_its_own_place_in_the_spread(new_world: Callable[[], World]) -> None:
    """Never before the point that is set; the same at each look; then it rotates."""
    places = []
    for world in (new_world(), new_world()):
        world.set_setting('[rotation]\ndue_at = 0.5\nspread = "100d"')
        not_before, _ = life(world)
        first = wanted(world, not_before + HOUR)
        at = datetime.fromisoformat(first["next_at"])
        assert half(world) <= at < half(world) + 100 * DAY
        assert first["next_at"] == wanted(world, at - timedelta(seconds=1))["next_at"]
        assert run(world, at - timedelta(seconds=1)).result is Result.NOTHING_TO_DO
        assert wanted(world, at)["wanted"]
        places.append(at - half(world))
    assert places[0] != places[1]


def test_the_point_may_be_a_time_before_expiry(soon: World) -> None:
    soon.set_setting('[rotation]\ndue_before_expiry = "3d"\nspread = "0s"')
    _, not_after = life(soon)

    assert run(soon, not_after - 3 * DAY - HOUR).result is Result.NOTHING_TO_DO
    outcome = run(soon, not_after - 3 * DAY)

    assert outcome.result is Result.COMPLETED
    assert outcome.rotation is not None
    assert outcome.rotation.id == f"certs-{int((not_after - 3 * DAY).timestamp())}"


def test_one_rotation_serves_schedule_and_trigger(soon: World) -> None:
    """A device that is due does not wait for its moment in the window, nor rotates twice."""
    soon.set_setting(AT_ONCE)
    trigger(soon, "certs-7", "START=2099-01-01T00:00:00Z")
    at = half(soon)

    outcome = run(soon, at)

    assert outcome.result is Result.COMPLETED
    assert soon.live_pair()[1].name == "pkey.certs-7.pem"


def test_a_value_that_nothing_opens_holds_no_rotation_for_ever(
    soon: World, new_world: Callable[[], World]
) -> None:
    """A person is given time to set it again; then the device counts for more."""
    soon.set_setting(AT_ONCE)
    lose("app-secret", soon, new_world())
    lost = (soon.storage / "config.encrypted").read_bytes()
    not_before, not_after = life(soon)
    nine_tenths = not_before + (not_after - not_before) * 0.9

    with pytest.raises(ConfigError, match="cannot decrypt app-secret in "):
        run(soon, nine_tenths - HOUR)
    told: list[str] = []
    outcome = soon.rotate_at(
        nine_tenths, now=False, watch=lambda done: told.append(meaning(done.phase, done.facts))
    )

    assert outcome.result is Result.COMPLETED
    assert told[0].endswith("(no key opens app-secret)")
    for before, after in (
        (json.loads(lost), json.loads((soon.storage / "config.encrypted").read_bytes())),
        (json.loads(lost), dict(soon.factory.device(soon.uuid).config)),
    ):
        assert after.pop("app-secret")["Value"] == before.pop("app-secret")["Value"]
        assert soon.opened(after)["certs/ca-bundle.pem"] == BUNDLE
    soon.check_nothing_left_behind()
    soon.factory.set_config(soon.uuid, {"app-secret": b"again"})
    soon.fetch_config()
    assert soon.opened_config()["app-secret"] == b"again"


def lose(name: str, world: World, stranger: World) -> None:
    """The gateway and the device have a value that was sealed to another device's key."""
    stranger.factory.set_config(stranger.uuid, {name: b"x"})
    foreign = dict(stranger.factory.device(stranger.uuid).config)[name]["Value"]
    world.factory.set_config(world.uuid, {name: foreign.encode()}, plain=True)
    entry_as_sealed(world, name)
    world.fetch_config()


def test_attempts_get_denser_towards_expiry(soon: World) -> None:
    """An EST server that is down for days is asked more and more often."""
    soon.set_setting(AT_ONCE)
    _, not_after = life(soon)
    soon.factory.set_knob("est_answer", "500")
    at = half(soon)
    tries: list[datetime] = []
    while at < not_after - HOUR and len(tries) < 300:
        tries.append(at)
        assert run(soon, at).result is Result.TRY_AGAIN
        at = datetime.fromisoformat(wanted(soon, at)["next_at"])

    last_day = [each for each in tries if each >= not_after - DAY]
    day_before = [each for each in tries if not_after - 2 * DAY <= each < not_after - DAY]
    assert len(tries) < 300
    assert 2 * len(day_before) < len(last_day)
    soon.factory.set_knob("est_answer", "normal")
    soon.factory.set_knob("est_validity_days", "100")
    assert run(soon, at).result is Result.COMPLETED


def let_it_expire(world: World) -> None:
    """The live certificate again, by the same CA, but over since an hour."""
    old = world.certificate()
    end = datetime.now(timezone.utc) - HOUR
    extensions = [
        (each.value, each.critical)
        for each in old.extensions
        if not isinstance(each.value, x509.AuthorityKeyIdentifier)
    ]
    made = world.factory.authority("local-ca").sign(
        old.subject, old.public_key(), extensions, (end - 10 * DAY, end)
    )
    (world.storage / "client.pem").write_bytes(made.public_bytes(Encoding.PEM))


def test_an_expired_certificate_is_said_so_and_tried(world: World) -> None:
    """Where gateway and EST server take it, the device is back."""
    world.factory.set_knob("expired_clients", "accept")
    let_it_expire(world)
    assert "the certificate has expired on" in world.fioagent("status").out

    ran = world.fioagent("rotate")

    assert ran.code == 0, ran.err
    world.factory.set_knob("expired_clients", "refuse")
    world.check_reachable()


def test_an_expired_certificate_that_is_refused_is_tried_more_rarely(world: World) -> None:
    """One clear line; not given up."""
    let_it_expire(world)

    ran = world.fioagent("rotate")

    assert ran.code == 1
    assert "certificate expired" in ran.err
    status = json.loads(world.fioagent("status", "--json").out)["wanted"]
    assert (False, "schedule") == (status["wanted"], status["why"])
    assert status["next_at"] is not None
    assert world.fioagent("rotate").code == 75


@pytest.mark.parametrize(
    "clock",
    [datetime(1970, 1, 1, 0, 1, tzinfo=timezone.utc), datetime(2020, 5, 1, tzinfo=timezone.utc)],
)
def test_a_clock_that_cannot_be_makes_nothing_due(world: World, clock: datetime) -> None:
    """Neither schedule nor trigger; nor is it remembered as the begin of a window."""
    world.set_setting('[rotation]\ndue_at = 1e-15\nspread = "0s"')
    trigger(world, "certs-7", "WINDOW=24h")
    world.factory.clear_requests()

    answer = wanted(world, clock)
    outcome = run(world, clock)

    assert (False, "clock") == (answer["wanted"], answer["why"])
    assert outcome.result is Result.TRY_AGAIN
    assert "which cannot be" in outcome.message
    assert world.factory.requests("est") == []
    assert not (world.storage / "fioagent" / "trigger.json").exists()


def test_a_clock_that_cannot_be_gives_nothing_up(world: World) -> None:
    """A rotation that has no certificate yet waits for the time, without counting a failure."""
    now = datetime.now(timezone.utc)
    world.factory.set_knob("est_answer", "500")
    assert world.rotate_at(now, "certs-1").result is Result.TRY_AGAIN
    journal = (world.storage / "fioagent" / "rotation.journal").read_bytes()

    for _ in range(3):
        clock = datetime(1970, 1, 1, tzinfo=timezone.utc)
        assert run(world, clock).result is Result.TRY_AGAIN

    assert journal == (world.storage / "fioagent" / "rotation.journal").read_bytes()
    world.factory.set_knob("est_answer", "normal")
    assert run(world, now + HOUR).result is Result.COMPLETED


def test_what_the_gateway_knows_goes_on_by_any_clock(world: World) -> None:
    """It needs no time, and the operator's writes are locked until it is over."""
    world.pause_before_the_commit("certs-1")

    assert run(world, datetime(1970, 1, 1, tzinfo=timezone.utc)).result is Result.COMPLETED


def test_a_ca_that_refuses_is_not_asked_at_every_check_in(soon: World) -> None:
    """Each refusal is the end of a rotation; the next waits longer."""
    soon.set_setting(AT_ONCE)
    soon.factory.set_knob("est_answer", "403")
    at, ended = half(soon), []
    for minutes in range(0, 12 * 60, 5):
        outcome = run(soon, at + timedelta(minutes=minutes))
        if outcome.result is Result.FAILED:
            ended.append(minutes)
        else:
            assert outcome.result is Result.TRY_AGAIN
            assert "were refused" in outcome.message

    assert 3 <= len(ended) <= 6
    gaps = [b - a for a, b in itertools.pairwise(ended)]
    assert gaps[-1] > gaps[0]
    soon.factory.set_knob("est_answer", "normal")
    assert run(soon, at + 2 * DAY).result is Result.COMPLETED
