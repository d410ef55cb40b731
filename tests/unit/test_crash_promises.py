"""The oracle can fail: each promise is broken by hand once, and it says so."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from fioagent.factory.pki import certificates
from tests.crash import promises, runs
from tests.crash.memory import File, Link
from tests.crash.promises import BROKEN, STRANDED
from tests.crash.recording import Recording
from tests.crash.runs import Scenario, rotate
from tests.crash.scenarios import cut_before
from tests.crash.servers import registered
from tests.crash.simulated import UUID, Simulation, in_memory, sealed_config
from tests.world import SECRET

Change = Callable[[Simulation], object]
LIVE_KEY = "/var/sota/pkey.certs-1.pem"
LIVE_CERTIFICATE = "/var/sota/client.certs-1.pem"
ROTATION = Scenario("first rotation", in_memory, rotate("certs-1"))


def rotated() -> Simulation:
    device = in_memory()
    runs.process(device, rotate("certs-1"))
    return device


def committed() -> Simulation:
    """Cut off right before the new pair is used for the first time."""
    return cut_before(in_memory, "GET /config")


def another_key() -> bytes:
    return certificates.private_pem(certificates.new_key())


def write(path: str, content: bytes) -> Change:
    return lambda device: device.disk.replace(f"/var/sota/{path}", content)


def append(path: str, content: bytes) -> Change:
    return lambda device: device.disk.append(f"/var/sota/{path}", content)


def remove(path: str) -> Change:
    return lambda device: device.disk.remove(path)


def denied(device: Simulation) -> None:
    device.servers.public_key = certificates.public_pem(certificates.new_key().public_key())


def sealed_to_another(device: Simulation) -> None:
    device.servers.config = sealed_config(
        certificates.public_pem(certificates.new_key().public_key())
    )


def sealed_here_to_another(device: Simulation) -> None:
    sealed = sealed_config(certificates.public_pem(certificates.new_key().public_key()))
    write("config.encrypted", json.dumps(sealed).encode())(device)


def without_a_file(device: Simulation) -> None:
    device.servers.config = dict(list(device.servers.config.items())[1:])


def with_another_value(device: Simulation) -> None:
    entry = {"Value": "enabled=1", "Unencrypted": True}
    device.servers.config = {**device.servers.config, "wireguard-client": entry}


def waiting_for_another(device: Simulation) -> None:
    device.servers.next_public_key = certificates.public_pem(certificates.new_key().public_key())


def waiting_for_the_live_key(device: Simulation) -> None:
    device.servers.next_public_key = device.servers.public_key


def secret_told(device: Simulation) -> None:
    first = device.servers.events[0]
    told = {**first, "event": {**first["event"], "details": "password=hunter2"}}
    device.servers.events = [told, *device.servers.events[1:]]


AT_ANY_INSTANT: list[tuple[Callable[[], Simulation], Change, str, str]] = [
    (rotated, remove(LIVE_KEY), STRANDED, "no credential at"),
    (rotated, remove(LIVE_CERTIFICATE), STRANDED, "no credential at"),
    (rotated, remove("/var/sota/sota.toml"), STRANDED, "no credential at ''"),
    (rotated, write("sota.toml", b"[import\n"), STRANDED, "no credential at ''"),
    (rotated, write("pkey.certs-1.pem", another_key()), STRANDED, "does not belong to"),
    (rotated, write("client.certs-1.pem", b"no certificate"), STRANDED, "no credential at"),
    (rotated, denied, STRANDED, "the gateway refuses"),
    (rotated, sealed_to_another, BROKEN, "app-secret in the configuration of the gateway is lost"),
    (rotated, sealed_here_to_another, BROKEN, "app-secret in the configuration of config.encr"),
    (rotated, without_a_file, BROKEN, "the configuration of the gateway has other files"),
    (rotated, with_another_value, BROKEN, "wireguard-client in the configuration of the gateway"),
    (rotated, remove("/var/sota/config.encrypted"), BROKEN, "config.encrypted has other files"),
    (committed, remove("/var/sota/pkey.pem"), BROKEN, "the old pair is gone in phase committed"),
    (committed, write("pkey.pem", another_key()), BROKEN, "the old pair is gone"),
    (rotated, waiting_for_another, BROKEN, "waits for a key that is nowhere"),
    (rotated, append("fioagent/ended-000001-certs-1.journal", SECRET), BROKEN, "a secret in fio"),
    (rotated, append("fioagent/lock", another_key()), BROKEN, "a secret in fioagent/lock"),
    (rotated, append("cert-rotation.state.completed", another_key()), BROKEN, "a secret in cert"),
    (rotated, secret_told, BROKEN, "a secret in the events"),
]


@pytest.mark.parametrize(("start", "change", "kind", "text"), AT_ANY_INSTANT)
def test_what_is_broken_at_an_instant_is_told(
    start: Callable[[], Simulation], change: Change, kind: str, text: str
) -> None:
    device = start()
    assert promises.at_any_instant(device.disk, device.servers, device.storage) == []

    change(device)

    found = promises.at_any_instant(device.disk, device.servers, device.storage)
    assert [each for each in found if each[0] == kind and text in each[1]], found


def test_a_committed_pair_may_be_refused_while_the_old_one_works() -> None:
    """The sole exception of the design, and no further than that."""
    device = committed()
    device.servers.next_public_key = None
    assert promises.at_any_instant(device.disk, device.servers, device.storage) == []

    device.servers.public_key, device.servers.denied = "another", [device.servers.public_key]

    ((kind, text),) = promises.at_any_instant(device.disk, device.servers, device.storage)
    assert (kind, "refuses" in text) == (STRANDED, True)


def test_a_half_done_commit_is_excused_until_recovery_has_run() -> None:
    device = committed()
    device.servers.next_public_key = None
    path = "/var/sota/fioagent/rotation.journal"
    lines = device.disk.read(path).split(b"\n")
    later = next(i for i, line in enumerate(lines) if b'"committed"' in line)
    device.disk.replace(path, b"\n".join([*lines[:later], b""]))

    def kinds(*, recovered: bool) -> list[str]:
        found = promises.at_any_instant(
            device.disk, device.servers, device.storage, recovered=recovered
        )
        return [kind for kind, _ in found]

    assert kinds(recovered=False) == []
    assert kinds(recovered=True) == [STRANDED]


def left_beside(path: str) -> Change:
    return write(path, b"left")


def linked_elsewhere(device: Simulation) -> None:
    device.disk.entries["/var/sota/pkey.pem"] = Link("pkey.gone.pem")


def second_key(device: Simulation) -> None:
    device.disk.entries["/var/sota/root.crt"] = File(another_key(), 0o600)


def events(change: Callable[[list[dict[str, object]]], list[dict[str, object]]]) -> Change:
    def act(device: Simulation) -> None:
        device.servers.events = change(device.servers.events)

    return act


def failure_told(device: Simulation) -> None:
    last = device.servers.events[-1]
    told = {**last, "event": {**last["event"], "success": False}}
    device.servers.events = [*device.servers.events[:-1], told]


def never_switched_over(device: Simulation) -> None:
    """The new certificate works, but for the key that the gateway had before."""
    device.servers.denied = [device.servers.public_key]
    key = certificates.new_key()
    device.disk.replace(LIVE_KEY, certificates.private_pem(key))
    certificate = registered(key.public_key(), UUID)
    device.disk.replace(LIVE_CERTIFICATE, certificates.certificate_pem(certificate))
    device.servers.public_key = certificates.public_pem(key.public_key())
    device.servers.denied = []


AT_THE_END: list[tuple[Change, str]] = [
    (left_beside("config.encrypted.staged"), "left behind: ['config.encrypted.staged']"),
    (left_beside(".sota.toml.fioagent-tmp"), "left behind: ['.sota.toml.fioagent-tmp']"),
    (left_beside("cert-rotation.state"), "left behind: ['cert-rotation.state']"),
    (left_beside("fioagent/.x.fioagent-tmp"), "left behind: ['fioagent/.x.fioagent-tmp']"),
    (left_beside("fioagent/damaged.journal"), "left behind: ['fioagent/damaged.journal']"),
    (remove("/var/sota/root.crt"), "missing: ['root.crt']"),
    (remove("/var/sota/pkey.pem"), "missing: ['pkey.pem']"),
    (linked_elsewhere, "pkey.pem does not lead to pkey.certs-1.pem"),
    (second_key, "2 private keys on the device"),
    (waiting_for_the_live_key, "the gateway still waits for another key"),
    (events(lambda told: told[1:]), "gaps, or are out of order"),
    (events(lambda told: [*told[:2], *told[3:]]), "gaps, or are out of order"),
    (events(lambda told: [told[1], told[0], *told[2:]]), "do not begin at the start"),
    (events(lambda told: [*told[:-2], told[-1], told[-2]]), "certs-1 was told to end 1 times, or"),
    (events(lambda told: told[:-1]), "certs-1 was told to end 0 times"),
    (events(lambda told: [*told, told[-1]]), "certs-1 was told to end 2 times"),
    (events(lambda told: []), "certs-1 was told to end 0 times"),
    (failure_told, "told success=False, which is not true"),
    (never_switched_over, "told success=True, which is not true"),
    (remove("/var/sota/fioagent/ended-000001-certs-1.journal"), "rotations that nobody knows"),
    (write("cert-rotation.state.completed", b"{}"), "does not name certs-1"),
]


@pytest.mark.parametrize(("change", "text"), AT_THE_END)
def test_what_is_broken_at_the_end_is_told(change: Change, text: str) -> None:
    device = rotated()
    assert promises.at_the_end(device.disk, device.servers, device.storage) == []

    change(device)

    found = promises.at_the_end(device.disk, device.servers, device.storage)
    assert [each for each in found if text in each[1]], found


def test_values_that_only_another_key_opens_are_lost_at_the_end() -> None:
    """It is not enough that the key is somewhere."""
    device = rotated()
    key = certificates.new_key()
    write("spare.pem", certificates.private_pem(key))(device)
    device.servers.config = sealed_config(certificates.public_pem(key.public_key()))
    assert promises.at_any_instant(device.disk, device.servers, device.storage) == []

    found = promises.at_the_end(device.disk, device.servers, device.storage)

    assert (BROKEN, "app-secret in the configuration of the gateway is lost") in found


def pair_put_back(device: Simulation) -> None:
    text = device.disk.read("/var/sota/sota.toml")
    device.disk.replace("/var/sota/sota.toml", text.replace(b'"sqlite"', b'"other"'))


def restarted_again(device: Simulation) -> None:
    device.services.restarts += 1


def with_the_old_pair(device: Simulation) -> None:
    device.services.credential = "/var/sota/pkey.pem"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (pair_put_back, "sota.toml: more than the pair has changed"),
        (restarted_again, "services were restarted 2 times for 1 changes of the pair"),
        (with_the_old_pair, "a service goes on with another pair than the live one"),
    ],
)
def test_what_only_the_simulation_sees_is_told(change: Change, text: str) -> None:
    device, before = rotated(), in_memory().disk.read("/var/sota/sota.toml")
    assert runs.ended(device, ROTATION, before) == []

    change(device)

    assert (BROKEN, text) in runs.ended(device, ROTATION, before)


def test_the_other_end_is_told() -> None:
    device = in_memory()
    sota = device.disk.read("/var/sota/sota.toml")
    device.servers.est_answers = [403]
    runs.process(device, rotate("certs-1"))

    assert runs.ended(device, ROTATION, sota) == [(BROKEN, "it has ended the other way")]
    assert runs.ended(device, ROTATION, sota, either=True) == []


def test_a_rotation_that_never_ends_is_told() -> None:
    device = in_memory()
    device.servers.est_answers = [503] * 99

    assert runs.to_the_end(device, ROTATION) == [(BROKEN, "not at its end after 8 runs")]


def test_asking_a_server_at_boot_is_a_bug() -> None:
    recording = Recording(in_memory())

    with pytest.raises(AssertionError, match="the gateway was asked for offline"):
        runs.process(recording.device, rotate("certs-1"), runs.offline)
