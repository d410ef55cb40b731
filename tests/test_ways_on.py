"""Whatever a gateway, a disk or a person does, there is a way on, and no key is lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from fioagent import agent
from fioagent.disk import LocalDisk
from fioagent.errors import AgentError, ConfigError, CredentialRefusedError
from tests.power import PowerCutError, StopAt, Switch, WrappedSessions, rotate, rotate_with
from tests.test_delivery import Deaf
from tests.test_recovery import rotate_until_reverting
from tests.test_superseding import damage, ends
from tests.world import SECRET, World


def phase(world: World) -> str | None:
    rotation = world.fioagent("status", "--json").lines[0]["rotation"]
    return None if rotation is None else str(rotation["phase"])


# --- a gateway that takes less at once than a configuration has ---


def test_a_configuration_that_is_too_large_for_one_request_goes_in_parts(world: World) -> None:
    """All of it, also where the line breaks between two of them; files stay that were there."""
    files = {f"file-{number}": bytes([number]) * 2000 for number in range(200)}
    world.factory.set_config(world.uuid, files)
    assert world.fioagent("check-in").code == 0
    world.factory.clear_requests()
    world.factory.add_fault("drop", method="PATCH", path="/config", after=4, times=1)

    assert world.rotate("--id", "certs-1").code == 75
    assert world.rotate("--id", "certs-1").code == 0

    sent = [seen for seen in world.factory.requests("gateway") if seen.method == "PATCH"]
    statuses = [seen.status for seen in sent if seen.path == "/config"]
    assert statuses.count(413) > 2
    assert 0 in statuses
    for opened in (world.opened_device_config(), world.opened_config()):
        assert {name: opened[name] for name in files} == files
        assert opened["app-secret"] == SECRET
    world.check_nothing_left_behind()


# --- the way back ---


class RefusesTheNewPair:
    """``ports.Gateway`` that says 403 to the new pair ``times`` times: a replica that is behind."""

    times = 0

    def __init__(self, gateway: Any) -> None:
        self._gateway = gateway

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gateway, name)

    def check(self) -> int:
        if type(self).times > 0:
            type(self).times -= 1
            raise CredentialRefusedError("the gateway answered 403", status=403)
        return int(self._gateway.check())


def test_held_way_back_ends_when_the_gateway_is_well_again(world: World) -> None:
    """It waits for the new key (announced once more, and taken), and keeps its lock."""
    RefusesTheNewPair.times = 2
    rotate_with(world, RefusesTheNewPair, "certs-1")
    world.check_reachable()
    assert phase(world) == "reverting"

    codes = [world.rotate().code for _ in range(4)]

    assert phase(world) is None, (codes, world.rotate().err)


def test_held_way_back_leaves_a_way_on(world: World) -> None:
    """The same: some command of ours gets out of it."""
    RefusesTheNewPair.times = 2
    rotate_with(world, RefusesTheNewPair, "certs-1")

    codes = [
        world.fioagent(*command).code
        for command in (("cancel",), ("recover",), ("rotate", "--now", "--id", "certs-2"))
    ]

    assert phase(world) is None, codes


@pytest.mark.parametrize("answer", ["405", "on"])
def test_key_that_the_gateway_waits_for_is_not_destroyed_on_the_way_back(
    new_world: Callable[[], World], answer: str
) -> None:
    """The lock's route fails at the second announcement. No configuration is on the gateway."""
    world = new_world()
    world.set_setting('[rotation]\ntrust_check = "none"')
    world.factory.set_knob("est_ca", "foreign-ca")
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("before check"), "certs-1")
    world.factory.set_knob("patch_device", answer)

    ran = world.rotate()

    world.check_reachable()
    waits = world.factory.device(world.uuid).next_public_key_pem
    key = world.storage / "pkey.certs-1.pem"
    assert waits is None or key.exists(), (ran.code, ran.err)


def test_recovery_puts_back_no_pair_that_is_not_whole(world: World) -> None:
    """commit() asks require_pair(new) first; the way back asks nothing."""
    world.pause_before_the_commit("certs-1")
    world.make_the_gateway_forget_the_new_key()
    rotate_until_reverting(world, Switch(), 1)
    assert world.live_pair()[1].name == "pkey.certs-1.pem"
    (world.storage / "pkey.pem").unlink()

    world.fioagent("recover")

    assert world.live_pair()[1].exists(), "sota.toml names a key that is not there"


class Alternating:
    """``ports.Gateway``: of two nodes, one knows neither key; each question meets the other."""

    asked = 0

    def __init__(self, gateway: Any) -> None:
        self._gateway = gateway

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gateway, name)

    ANSWERS = (403, 403, 200, 403)  # new, new again, old still works?, old still works?

    def check(self) -> int:
        number = Alternating.asked
        Alternating.asked += 1
        if number > 400:
            raise KeyboardInterrupt
        if self.ANSWERS[number % 4] == 403:
            raise CredentialRefusedError("the gateway answered 403", status=403)
        return 200


def test_one_run_ends_whatever_the_gateway_says(world: World) -> None:
    """Back and forward again, once a run at most."""
    Alternating.asked = 0
    try:
        rotate_with(world, Alternating, "certs-1")
    except KeyboardInterrupt:
        size = (world.storage / "fioagent" / "rotation.journal").stat().st_size
        pytest.fail(f"one run asked 400 times; its journal has {size} bytes")


# --- ways on ---


def test_device_registered_again_after_the_commit_can_rotate(world: World) -> None:
    """The former rotation can never go on; something has to end it."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("before check"), "certs-1")
    # Registration writes sota.toml and the stable names anew; here: the same pair again.
    text = world.sota_toml.read_text().replace("pkey.certs-1.pem", "pkey.pem")
    world.sota_toml.write_text(text.replace("client.certs-1.pem", "client.pem"))
    world.check_reachable()

    for command in (("rotate", "--now"), ("cancel",), ("rotate", "--now", "--id", "certs-2")):
        world.fioagent(*command)

    assert phase(world) is None, world.rotate().err


def test_recovery_finishes_what_was_begun_with_another_search_list(world: World) -> None:
    """A technician's "rotate -c /var/sota/sota.toml", as --help has it; the unit has no -c."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("after replace", 5), "certs-1")

    usual = f"/usr/lib/sota/conf.d,{world.sota_toml},/etc/sota/conf.d/"
    ran = world.fioagent("recover", environ={"SOTA_DIR": usual})

    assert ran.code == 0, ran.err
    assert world.opened_config()


@pytest.mark.parametrize("command", [("rotate",), ("rotate", "--now")])
def test_rotation_cut_between_the_superseded_one_and_its_successor_goes_on(
    world: World, command: tuple[str, ...]
) -> None:
    """The gateway is locked and holds values for a key that is not live: nobody may have to ask."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("after patch_config"), "certs-1")
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("after rename"), "certs-2")

    ran = world.fioagent(*command)

    assert ran.code == 0
    assert world.opened_device_config(), ran.out


def test_plain_rotate_after_the_record_of_the_end_goes_on(world: World) -> None:
    """Cut between the record SUPERSEDED and the archive; "rotate --now" says it has failed."""
    world.pause_before_the_commit("certs-1")
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("before rename"), "certs-2")
    world.fioagent("recover")

    ran = world.fioagent("rotate")

    assert world.live_pair()[1].name == "pkey.certs-1.pem", (ran.code, ran.out)


def test_another_id_after_a_kill_in_the_middle_of_the_commit(world: World) -> None:
    """No boot in between, so no recovery; sota.toml names the new pair, the config does not."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("after replace", 5), "certs-1")

    ran = world.rotate("--id", "certs-2")

    assert ran.code == 0, ran.err


def test_the_same_without_configuration(new_world: Callable[[], World]) -> None:
    """Then it supersedes a pair that is live: told as failed, and its old pair stays for ever."""
    world = new_world()
    assert world.rotate("--id", "certs-0").code == 0
    old = world.live_pair()[1].read_bytes()
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("after replace", 4), "certs-1")
    assert world.live_pair()[1].name == "pkey.certs-1.pem"

    assert world.rotate("--id", "certs-2").code == 0

    assert old not in world.files().values(), "the old key is still on the device"


# --- keys ---


class UnreadableOnce(LocalDisk):
    """A disk that answers EIO to the first read of one file."""

    def __init__(self, name: str) -> None:
        self.name: str | None = name

    def read(self, path: str) -> bytes:
        if self.name is not None and path.endswith(self.name):
            self.name = None
            raise ConfigError(f"cannot read {path}: input/output error")
        return super().read(path)


def test_announced_key_that_cannot_be_read_once_is_not_given_up(world: World) -> None:
    """A key that cannot be read is not a key that is gone."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("after set_next_key"), "certs-1")
    disk = UnreadableOnce("pkey.certs-1.pem")
    try:
        with agent.opened([], world.device.env, disk=disk) as opened:
            opened.rotate(now=True, est_url=None, rotation_id="certs-2", watch=lambda _: None)
    except AgentError:
        pass

    codes = [world.rotate("--id", f"certs-{number}").code for number in (3, 4)]

    world.check_reachable()
    assert 0 in codes, codes


def test_page_in_place_of_an_answer_is_no_confirmation(world: World) -> None:
    """200 with something that no gateway says."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("before check"), "certs-1")
    world.factory.set_knob("gateway_answer", "garbage")

    ran = world.rotate()

    assert ran.code == 75
    assert "answered 200 with no configuration" in ran.err
    assert phase(world) == "committed"
    world.factory.set_knob("gateway_answer", "normal")
    assert world.rotate().code == 0


def test_refusal_of_the_new_pair_after_it_was_confirmed_keeps_the_old_one(world: World) -> None:
    """A gateway that is set back to its backup: only the old key is known. Nothing is destroyed."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("before restart"), "certs-1")

    rotate_with(world, RefusesEverythingOfTheNewPair, "certs-1")

    assert world.old_key in world.files().values()


class RefusesEverythingOfTheNewPair:
    def __init__(self, gateway: Any) -> None:
        self._gateway = gateway

    def __getattr__(self, name: str) -> Any:
        def refuse(*_: Any) -> None:
            raise CredentialRefusedError("the gateway answered 403", status=403)

        return refuse


class GarbageOnce:
    """``ports.Gateway`` that answers nonsense to the second look at its configuration."""

    def __init__(self, gateway: Any) -> None:
        self._gateway = gateway

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gateway, name)

    def device_config(self) -> bytes:
        return b"<html>maintenance</html>"


def test_one_bad_answer_while_retiring_loses_no_value(world: World) -> None:
    """An operator wrote under the old key meanwhile; the old key goes without a second look."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("before check"), "certs-1")
    world.factory.set_knob("operator_write_locked", "accept")
    world.factory.set_config(world.uuid, {"app-secret": b"changed meanwhile"})

    rotate_with(world, GarbageOnce, "certs-1")
    world.rotate()

    world.check_every_value_opens_with_a_key_at_hand()


# --- damaged journals ---


def test_half_done_commit_with_a_damaged_journal_has_a_way_on(world: World) -> None:
    """A card that lies does both at once. The old key is on the device, and opens the config."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("after replace", 5), "certs-1")
    damage(world, "locked")
    world.fioagent("recover")

    ran = world.rotate("--id", "certs-2")

    assert ran.code == 0, ran.err
    assert world.opened_config()


def test_damaged_record_of_the_way_back_has_a_way_on(world: World) -> None:
    RefusesTheNewPair.times = 2
    rotate_with(world, RefusesTheNewPair, "certs-1")  # held: the gateway keeps its lock
    assert phase(world) == "reverting"
    damage(world, "reverting")

    for identifier in ("certs-2", "certs-3"):
        ran = world.rotate("--id", identifier)

    world.check_reachable()
    assert "does not know" not in ran.err, ran.err


def test_damaged_beginning_loses_no_announced_key(world: World) -> None:
    """The first record alone is damaged; the key that it names lies beside it."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("after set_next_key"), "certs-1")
    damage(world, "begun")

    codes = [world.rotate("--id", f"certs-{number}").code for number in (2, 3)]

    assert 0 in codes, (codes, world.rotate().err)


def test_end_of_a_damaged_rotation_is_told_truthfully(world: World) -> None:
    """Its pair is live, and the gateway has switched to it."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("before restart"), "certs-1")
    damage(world, "locked")

    assert world.rotate("--id", "certs-2").code == 0

    assert next((i, ok) for i, ok, _ in ends(world)) == ("certs-1", True)


def test_and_its_old_pair_is_retired(world: World) -> None:
    assert world.rotate("--id", "certs-0").code == 0
    old = world.live_pair()[1].read_bytes()
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("before restart"), "certs-1")
    damage(world, "locked")

    assert world.rotate("--id", "certs-2").code == 0

    assert old not in world.files().values()


def test_journal_that_cannot_be_read_at_all_can_be_set_aside(world: World) -> None:
    """A bad block: EIO. Here a directory of that name, which is as unreadable."""
    (world.storage / "fioagent").mkdir()
    (world.storage / "fioagent" / "rotation.journal").mkdir()

    assert world.rotate("--id", "certs-9").code == 0


# --- ends ---


def test_one_end_for_each_rotation(world: World) -> None:
    """A stale trigger brings back the id that was superseded."""
    world.pause_before_the_commit("certs-1")
    world.factory.set_knob("gateway_patch_config", "500")
    assert world.rotate("--id", "certs-2").code == 75
    world.factory.set_knob("gateway_patch_config", "on")

    world.rotate("--id", "certs-1")

    identifiers = [identifier for identifier, _, _ in ends(world)]
    assert sorted(set(identifiers)) == sorted(identifiers), ends(world)


def test_cancel_of_what_is_over_tells_the_truth(world: World) -> None:
    """Cut between its own record and the archive."""
    world.factory.set_knob("est_answer", "garbage")
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("before rename"), "certs-1")

    ran = world.fioagent("cancel")

    assert "the gateway may know its new key" not in ran.err


# --- delivery of events ---


def test_delivery_of_events_uses_no_pair_but_the_one_in_sota_toml(world: World) -> None:
    """A person has put the old pair back, so the new one must not be used by the way."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("before check"), "certs-1")
    text = world.sota_toml.read_text().replace("pkey.certs-1.pem", "pkey.pem")
    world.sota_toml.write_text(text.replace("client.certs-1.pem", "client.pem"))
    world.check_reachable()

    ran = world.rotate()

    assert "which it does not know" in ran.err
    world.check_reachable()


def test_events_of_earlier_rotations_are_no_first_use_either(world: World) -> None:
    """A commit that stops half-way (here: no room for config.encrypted) is not announced."""
    rotate_with(world, Deaf, "certs-0")

    class Full(LocalDisk):
        def replace(self, path: str, content: bytes, **named: Any) -> None:
            if path.endswith("config.encrypted"):
                raise ConfigError(f"cannot write {path}: no space left on device")
            super().replace(path, content, **named)

    first = DeafUntilPatched
    first.patched = False
    with agent.opened([], world.device.env, disk=Full()) as opened:
        device = opened.device
        sessions = WrappedSessions(device.sessions, first)
        own = agent.Agent(
            dataclasses.replace(device, sessions=sessions), world.device.env["SECRETS_DIR"]
        )
        own.rotate(now=True, est_url=None, rotation_id="certs-1", watch=lambda _: None)

    journal = (world.storage / "fioagent" / "rotation.journal").read_bytes()
    assert phase(world) == "device-config-updated"
    switched = world.factory.device(world.uuid).next_public_key_pem is None
    assert not switched or b'"attempt","phase":"confirmed"' in journal


class DeafUntilPatched(Deaf):
    """Takes no events before the configuration is re-encrypted, and one batch later on."""

    patched = False
    batches = 0

    def patch_config(self, *arguments: Any) -> None:
        self._gateway.patch_config(*arguments)
        type(self).patched = True

    def post_events(self, events: Any) -> None:
        type(self).batches += type(self).patched
        if self.batches < 2:
            super().post_events(events)
        self._gateway.post_events(events)
