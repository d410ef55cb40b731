"""Power cuts: before and after every effect of a rotation whose keys are in a token."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import cast

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fioagent import agent, site
from fioagent.disk import LocalDisk
from fioagent.keystore.token import Token
from fioagent.keystore.token_store import TokenKeyStore
from fioagent.ports import Disk
from fioagent.rotation.rotator import Outcome, Result
from fioagent.sessions import HttpSessions
from tests.power import PowerCutError, Switch, Wired, WrappedSessions
from tests.test_rotation import SUCCESS
from tests.token_world import TokenWorld
from tests.world import BUNDLE, PLAIN, SECRET

# The shape of a clean run; the first test keeps it true.
POINTS_IN_A_CLEAN_RUN = 86


@contextlib.contextmanager
def powered(world: TokenWorld, switch: Switch) -> Iterator[agent.Agent]:
    """The agent with the switch in every line; a token's effects are those of its objects."""
    disk = cast("Disk", Wired(LocalDisk(), switch))
    env = world.device.env
    with world.token.opened() as token, agent.opened([], env, disk=disk) as opened:
        device = opened.device
        keys = TokenKeyStore(cast("Token", Wired(token, switch)), device.live_credential)
        sessions = HttpSessions(
            disk, keys, lambda: site.read_sota(disk, device.site.sota_paths), device.settings
        )
        try:
            wrapped = WrappedSessions(sessions, lambda peer: Wired(peer, switch))
            wired = dataclasses.replace(device, keys=keys, sessions=wrapped)
            yield agent.Agent(wired, env["SECRETS_DIR"])
        finally:
            sessions.close()


def rotate(world: TokenWorld, switch: Switch, identifier: str) -> Outcome:
    with powered(world, switch) as opened:
        return opened.rotate(now=True, est_url=None, rotation_id=identifier, watch=lambda _: None)


def check_as_after_boot(world: TokenWorld) -> None:
    """What sota.toml names is there, belongs together, and the gateway knows it."""
    with powered(world, Switch()) as opened:
        keys, live = opened.device.keys, opened.device.live_credential()
        public, certificate = keys.private_key(live).public_key(), keys.certificate(live)
    assert certificate is not None
    assert certificate.parsed.public_key() == public
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    view = world.factory.device(world.uuid)
    assert pem in (view.public_key_pem, view.next_public_key_pem)
    assert world.extracted()["app-secret"] == SECRET


def check_finished(world: TokenWorld, ids: tuple[str, str]) -> None:
    assert world.live_ids() == ids
    assert world.token.objects() == [
        ("Certificate", "client", ids[1]),
        ("Private Key", "tls", ids[0]),
        ("Public Key", "tls", ids[0]),
    ]
    assert world.extracted() == {"app-secret": SECRET, "certs/ca-bundle.pem": BUNDLE, **PLAIN}
    assert world.fioagent("check-in").code == 0
    names = [
        (event["eventType"]["id"], event["event"]["success"])
        for event in world.factory.events(world.uuid)
    ]
    assert names == SUCCESS


@pytest.mark.parametrize("cut", range(POINTS_IN_A_CLEAN_RUN + 1))
def test_power_cut_anywhere(token_world: TokenWorld, cut: int) -> None:
    """Wherever the power fails, the device boots with a pair that works, and finishes."""
    world, switch = token_world, Switch(cut)
    world.give_config()
    if cut == 0:
        assert rotate(world, switch, "certs-1").result is Result.COMPLETED
        assert len(switch.passed) == POINTS_IN_A_CLEAN_RUN, switch.passed
    else:
        with pytest.raises(PowerCutError):
            rotate(world, switch, "certs-1")
        check_as_after_boot(world)
        outcome = rotate(world, Switch(), "certs-1")
        assert outcome.result in (Result.COMPLETED, Result.NOTHING_TO_DO)

    check_finished(world, ("07", "09"))
