"""The agent of this repository lives through faults at each endpoint that a rotation asks."""

from __future__ import annotations

from typing import Any

import pytest

from tests.world import World

ENDPOINTS = {
    "csrattrs": {"server": "est", "path": "*/csrattrs"},
    "cacerts": {"server": "est", "path": "*/cacerts"},
    "reenroll": {"server": "est", "path": "*/simplereenroll"},
    "config": {"server": "gateway", "method": "GET", "path": "/config"},
    "lock": {"server": "gateway", "method": "PATCH", "path": "/device"},
    "device-config": {"server": "gateway", "method": "GET", "path": "/config-device"},
    "patch-config": {"server": "gateway", "method": "PATCH", "path": "/config"},
    "events": {"server": "gateway", "method": "POST", "path": "/events"},
}
FAULTS: list[dict[str, Any]] = [
    {"action": "drop"},
    {"action": "drop", "done": True},
    {"action": "reset", "done": True},
    {"action": "status", "status": 502, "body": "<html>Bad Gateway</html>", "done": True},
    {"action": "status", "status": 429, "retry_after": 1},
    {"action": "status", "status": 403, "body": "no"},
    {"action": "cut"},
    {"action": "truncate"},
    {"action": "trickle", "delay": 0.0001},
    {"action": "garbage"},
    {"action": "content-type"},
    {"action": "date"},
    {"action": "slow", "delay": 0.2},
]
# Each endpoint meets a quarter of the faults, and each fault is met at two endpoints.
CASES = [
    pytest.param(where | fault, id=f"{name}-{'-'.join(map(str, fault.values()))}")
    for place, (name, where) in enumerate(ENDPOINTS.items())
    for number, fault in enumerate(FAULTS)
    if (number + place) % 4 == 0
] + [
    pytest.param({"server": server, "action": action, "after": after}, id=f"{server}-{action}")
    for server, after in (("est", 0), ("gateway", 1))
    for action in ("tls-alert", "tls-close")
]


def live_serial(world: World) -> int:
    return world.certificate().serial_number


@pytest.mark.parametrize("fault", CASES)
def test_a_rotation_meets_a_fault_once(world: World, fault: dict[str, Any]) -> None:
    """What the agent says of its end is so, and the device can always reach its gateway."""
    before = live_serial(world)
    world.factory.add_fault(**fault, times=1)

    first = world.rotate("--id", "certs-1", "--json")

    end = first.lines[-1]
    assert (end["event"], end["exit"]) == ("end", first.code)
    assert (end["result"] == "completed") == (first.code == 0)
    if first.code == 0:
        assert live_serial(world) != before
    world.check_reachable()
    assert [kept.hits for kept in world.factory.faults()] == [1]

    if first.code != 0:
        if first.code == 1:
            world.check_old_pair_is_live()
        assert world.rotate("--id", "certs-2" if first.code == 1 else "certs-1").code == 0
    assert live_serial(world) != before
    world.check_reachable()
    world.check_nothing_left_behind()
    assert ("CertRotationCompleted", True) in world.event_names()
    opened = world.opened_device_config()
    assert opened == world.opened_config()
    changed = world.factory.outbox("DEVICE_PUBKEY_CHANGE")
    assert len([event for event in changed if event["Uuid"] == world.uuid]) == 1
