"""Update events reach the operator late rather than never, in order, and once."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from fioagent.errors import TemporaryError
from fioagent.rotation.rotator import Outcome, Result
from tests.power import rotate_with
from tests.test_rotation import SUCCESS
from tests.world import World


class Deaf:
    """``ports.Gateway`` that takes everything but events."""

    def __init__(self, gateway: Any) -> None:
        self._gateway = gateway

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gateway, name)

    def post_events(self, events: object) -> None:
        raise TemporaryError("cannot report events: the gateway answered 503")


def rotate_unheard(world: World, identifier: str) -> Outcome:
    return rotate_with(world, Deaf, identifier)


def test_events_never_hold_a_rotation_up(world: World) -> None:
    """It completes; status says what is still to be told."""
    assert rotate_unheard(world, "certs-1").result is Result.COMPLETED

    assert world.event_names() == []
    assert "7 not yet delivered" in world.fioagent("status").out
    assert world.fioagent("status", "--json").lines[0]["undelivered_events"] == 7


def test_events_are_delivered_by_the_next_run_whatever_it_does(world: World) -> None:
    """Here it finds that the rotation is done. The operator sees one whole story, once."""
    rotate_unheard(world, "certs-1")

    for _ in range(2):
        world.rotate("--id", "certs-1")

    assert SUCCESS == world.event_names()
    assert world.fioagent("status", "--json").lines[0]["undelivered_events"] == 0


def test_events_of_two_rotations_arrive_in_their_order(world: World) -> None:
    """Ended journals are the spool."""
    rotate_unheard(world, "certs-1")
    rotate_unheard(world, "certs-2")
    assert len(world.journal_names()) == 2

    world.rotate("--id", "certs-3")

    assert world.event_names() == SUCCESS * 3
    told = [event["event"]["correlationId"] for event in world.factory.events(world.uuid)]
    assert told == ["certs-1"] * 7 + ["certs-2"] * 7 + ["certs-3"] * 7


def test_ten_ended_journals_are_kept(world: World) -> None:
    """A device that rotates for years does not fill its disk."""
    today = datetime.now(timezone.utc)
    for number in range(12):
        outcome = world.rotate_at(today + number * timedelta(days=1), f"certs-{number}")
        assert outcome.result is Result.COMPLETED

    assert len(world.journal_names()) == 10
    assert world.event_names() == SUCCESS * 12
