"""Whatever is wrong, on a server or on the device: one clear line, and the device goes on.

Each case runs the command line against the real servers, then shows by a real
request that the old pair still works, and looks at what is left on the disk.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from fioagent import agent
from fioagent.errors import CredentialRefusedError, PeerError, TemporaryError
from fioagent.factory import Factory
from fioagent.rotation.rotator import Result
from tests import cloud, needs
from tests.aftermath import check_never_begun, check_open, check_over, left, told
from tests.power import PowerCutError, StopAt, rotate, rotate_with
from tests.world import StoppedClock, World

# Root without its power over modes and mounts, as the service runs in its sandbox.
WITHOUT_CAPABILITIES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


# --- the EST server ---


def test_est_server_down(world: World) -> None:
    """Temporary: the key waits for the server, and the next run goes on with it."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    dead = f"https://localhost:{port}/.well-known/est"

    ran = world.rotate("--id", "certs-1", "--est-server", dead)

    told(ran, 75, f"cannot reach localhost:{port}: connection refused")
    check_open(world, "key-generated", "certs-1")
    key = (world.storage / "pkey.certs-1.pem").read_bytes()
    assert world.rotate("--est-server", world.urls.est).code == 0
    assert key == world.live_pair()[1].read_bytes()
    assert world.event_names()[1] == ("Generate new certificate", False)
    assert world.event_names()[-1] == ("CertRotationCompleted", True)


@pytest.mark.parametrize(
    ("knob", "line"),
    [
        ("foreign-ca", "cannot trust localhost:"),
        ("wrong-host", "certificate is not valid for 'localhost'"),
    ],
)
def test_est_server_that_is_not_ours(world: World, knob: str, line: str) -> None:
    """Temporary: a portal or proxy in between looks the same. No request byte is sent to it."""
    world.factory.set_knob("est_tls", knob)
    world.factory.clear_requests()

    ran = world.rotate("--id", "certs-1")

    told(ran, 75, line)
    assert world.factory.requests("est") == []
    check_open(world, "key-generated", "certs-1")
    world.factory.set_knob("est_tls", "normal")
    assert world.rotate().code == 0


def test_est_server_refuses(world: World) -> None:
    """A definite no ends the attempt, quotes the server, and leaves nothing behind."""
    world.factory.set_knob("est_answer", "403")

    ran = world.rotate()

    told(ran, 1, "cannot enrol: localhost:")
    assert "answered 403" in ran.err
    check_over(world)


def test_est_server_in_trouble(world: World) -> None:
    """Temporary, and a retry without --now waits as long as the server asked."""
    world.factory.set_knob("est_answer", "503")
    world.factory.set_knob("est_retry_after_s", "3600")

    ran = world.rotate("--id", "certs-1")

    told(ran, 75, "answered 503")
    check_open(world, "key-generated", "certs-1")
    world.factory.set_knob("est_answer", "normal")
    told(world.fioagent("rotate"), 75, "next try at")
    assert world.rotate().code == 0


def test_pending_enrolment_sends_the_same_request_again(world: World) -> None:
    """202: servers find a pending request by its bytes."""
    world.factory.set_knob("est_answer", "202")
    world.factory.clear_requests()

    told(world.rotate(), 75, "wants us to wait")
    told(world.rotate(), 75, "wants us to wait")
    world.factory.set_knob("est_answer", "normal")
    assert world.rotate().code == 0

    asked = [request for request in world.factory.requests("est") if request.method == "POST"]
    assert len({request.body for request in asked}) == 1
    assert len(asked) == 3
    assert world.event_names().count(("Generate new certificate", False)) == 1


@pytest.mark.parametrize(
    ("issue", "line"),
    [
        ("other-key", "it is for another key than the one we asked for"),
        ("no-client-auth", "it is not for client authentication"),
        ("expired", "it expired on"),
        ("same-cert", "it is for another key than the one we asked for"),
        ("other-subject", "its subject is"),
        ("empty", "the answer holds none"),
    ],
)
def test_certificate_that_will_not_do(world: World, issue: str, line: str) -> None:
    """Refused before the gateway hears of it."""
    world.factory.set_knob("est_issue", issue)

    ran = world.rotate()

    told(ran, 1, line)
    check_over(world)


@pytest.mark.parametrize(
    ("answer", "line"), [("garbage", "is damaged: not"), ("html", "with text/html")]
)
def test_answer_that_is_no_certificate(world: World, answer: str, line: str) -> None:
    """200 is not success."""
    world.factory.set_knob("est_answer", answer)

    told(world.rotate(), 1, line)

    check_over(world)


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("http://localhost:1/.well-known/est", "only https is safe"),
        ("https://localhost:1/.well-known/est/simplereenroll", "leave the operation"),
        ("https://user@localhost/.well-known/est", "no user, query or fragment"),
        ("https://localhost/a/../b", "'..' segment"),
        ("localhost", "only https is safe"),
    ],
)
def test_address_that_is_no_est_server(world: World, url: str, line: str) -> None:
    """Found before anything is written or sent."""
    before = world.files()

    ran = world.rotate("--est-server", url)

    told(ran, 78, line)
    check_never_begun(world, before)


# --- the gateway ---


@pytest.mark.parametrize("knob", ["patch_device", "config_device"])
def test_gateway_that_cannot_rotate(world: World, knob: str) -> None:
    """The public gateways lack both routes: stop, say so, and change nothing on the device."""
    world.factory.set_knob(knob, {"patch_device": "405", "config_device": "404"}[knob])

    ran = world.rotate()

    told(ran, 1, "this gateway does not support rotation")
    assert "nothing was changed; the device goes on with its certificate" in ran.err
    if knob == "patch_device":
        check_over(world)
    else:
        assert left(world) == set()
        world.check_old_pair_is_live()


def test_gateway_that_does_not_trust_the_new_ca(world: World) -> None:
    """Found by a handshake without a request, before the lock."""
    world.factory.set_knob("est_ca", "foreign-ca")

    ran = world.rotate()

    told(ran, 1, "refuses the device's certificate: unknown ca")
    check_over(world)


def test_gateway_down(world: World) -> None:
    """Nothing is begun without it."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    before = world.files()
    world.sota_toml.write_text(
        world.sota_toml.read_text().replace(world.urls.gateway, f"https://localhost:{port}")
    )

    told(world.rotate(), 75, "cannot reach localhost")

    world.sota_toml.write_bytes(before["sota.toml"])
    check_never_begun(world, before)


@pytest.mark.parametrize("answer", ["500", "503"])
def test_gateway_in_trouble(world: World, answer: str) -> None:
    """Temporary; preflight meets it first."""
    world.factory.set_knob("gateway_answer", answer)
    before = world.files()

    told(world.rotate(), 75, f"answered {answer}")

    world.factory.set_knob("gateway_answer", "normal")
    check_never_begun(world, before)


def test_gateway_that_loses_the_answer_to_the_lock(world: World) -> None:
    """The lock is in place; the next run announces the same key again and goes on."""
    world.factory.set_knob("patch_device_lose_answer", "on")

    ran = world.rotate()

    told(ran, 75, "cannot reach localhost")
    world.check_old_pair_is_live()
    world.factory.set_knob("patch_device_lose_answer", "off")
    assert world.rotate().code == 0
    world.check_nothing_left_behind()


def test_lock_that_is_refused_after_its_answer_was_lost(world: World) -> None:
    """The gateway may hold our key: throwing it away would lock the device's config for ever."""
    world.factory.set_knob("patch_device_lose_answer", "on")
    told(world.rotate("--id", "certs-1"), 75, "cannot reach localhost")
    world.factory.set_knob("patch_device", "405")

    told(world.rotate(), 75, "this gateway does not support rotation")

    assert (world.storage / "pkey.certs-1.pem").exists()
    world.check_old_pair_is_live()
    world.factory.set_knob("patch_device", "on")
    world.factory.set_knob("patch_device_lose_answer", "off")
    assert world.rotate().code == 0


class AlertAfterTheLock:
    """``ports.Gateway`` that locks; then its answer is lost and an alert is all that is heard."""

    def __init__(self, gateway: Any) -> None:
        self._gateway = gateway

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gateway, name)

    def set_next_key(self, public_key_pem: str) -> None:
        self._gateway.set_next_key(public_key_pem)
        raise CredentialRefusedError("the gateway refuses us", alert="access denied")


def test_alert_in_place_of_the_answer_to_the_lock(world: World) -> None:
    """It says nothing of the request that went before: the key is kept."""
    outcome = rotate_with(world, AlertAfterTheLock, "certs-1")

    assert outcome.result is Result.TRY_AGAIN
    assert (world.storage / "pkey.certs-1.pem").exists()
    assert world.rotate().code == 0


def test_gateway_that_loses_the_answer_to_the_configuration(world: World) -> None:
    """The gateway holds it under the new key already; the next run sees that."""
    world.factory.set_knob("gateway_patch_config", "drop-after")

    told(world.rotate(), 75, "cannot reach localhost")
    world.check_reachable()
    world.factory.set_knob("gateway_patch_config", "on")

    ran = world.rotate()

    assert "configuration on the gateway: readable already" in ran.unfolded
    assert ran.code == 0


def test_gateway_that_switches_over_and_loses_the_answer(world: World) -> None:
    """The old pair is denied from then on; the journal knew that before the request went out."""
    world.factory.set_knob("switch_lose_answer", "on")

    told(world.rotate(), 75, "cannot reach localhost")

    world.check_reachable()
    # Told with the new pair: the old one is denied by now.
    assert world.event_names()[-1] == ("Finalize aktualizr configuration", False)
    assert world.rotate().code == 0
    assert world.event_names()[-1] == ("CertRotationCompleted", True)


def test_gateway_that_refuses_the_new_pair_gets_the_old_one_back(world: World) -> None:
    """After the commit there is one way back: a definite refusal, with the old pair still taken."""
    world.pause_before_the_commit("certs-1")
    world.make_the_gateway_forget_the_new_key()

    ran = world.rotate()

    told(ran, 1, "Key rotation is not supported")
    assert "reverting" in ran.unfolded
    world.check_old_pair_is_live()
    assert left(world) == {f"fioagent/{name}" for name in world.journal_names()}
    assert world.opened_config() == world.opened_device_config()
    assert world.event_names()[-1] == ("CertRotationCompleted", False)


# --- the device ---


def test_sota_toml_unreadable(world: World) -> None:
    """Says which file; asks for nothing else."""
    needs.root_and("setpriv")
    before = world.files()
    world.sota_toml.chmod(0)

    ran = world.process("rotate", "--now", before=WITHOUT_CAPABILITIES)

    told(ran, 78, f"cannot read {world.sota_toml}: permission denied")
    check_never_begun(world, before)


def test_directory_of_sota_toml_not_writable(world: World) -> None:
    """Found in preflight, not at the commit."""
    needs.root_and("setpriv")
    apart = world.device.directory / "apart"
    apart.mkdir()
    shutil.move(world.sota_toml, apart / "sota.toml")
    apart.chmod(0o555)

    ran = world.process(
        "rotate", "--now", "-c", str(apart / "sota.toml"), before=WITHOUT_CAPABILITIES
    )

    told(ran, 78, f"{apart}/sota.toml cannot be replaced")
    shutil.move(apart / "sota.toml", world.sota_toml)
    assert left(world) == set()
    world.check_old_pair_is_live()


def test_storage_not_writable(world: World) -> None:
    """A read-only /var is a word, not a trace."""
    needs.root_and("setpriv")
    before = world.files()
    world.storage.chmod(0o555)

    ran = world.process("rotate", "--now", before=WITHOUT_CAPABILITIES)

    told(ran, 78, "permission denied")
    world.storage.chmod(0o700)
    check_never_begun(world, before)


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (("[tls]", "[tls"), "not valid TOML"),
        (("tls_pkey_path", "# tls_pkey_path"), "import.tls_pkey_path is not set in"),
        (('\npath = "', '\n# path = "'), "storage.path is not set in"),
        (("tls_cacert_path", "# tls_cacert_path"), "import.tls_cacert_path is not set in"),
        (("[tls]\nserver =", "[tls]\n# server ="), "tls.server is not set in"),
        (('ca_source = "file"', 'ca_source = "pkcs11"'), 'cannot use tls.ca_source = "pkcs11" in'),
        (('pkey_source = "file"', 'pkey_source = "magic"'), 'tls.pkey_source = "magic"'),
        (('pkey_source = "file"', "pkey_source = 7"), "it is not a string"),
        (('cert_source = "file"', 'cert_source = "pkcs11"'), 'tls.pkey_source is "file"'),
        (('"https://', '"http://'), "only https://HOST[:PORT] is safe"),
    ],
)
def test_sota_toml_that_will_not_do(world: World, damage: tuple[str, str], line: str) -> None:
    """Each missing or contradictory key is named with its file."""
    good = world.sota_toml.read_text()
    world.sota_toml.write_text(good.replace(*damage))
    before = world.files()

    ran = world.rotate()

    told(ran, 78, line)
    assert before == {n: c for n, c in world.files().items() if n != "fioagent/lock"}
    world.sota_toml.write_text(good)
    world.check_old_pair_is_live()


def test_sota_toml_that_only_one_of_its_readers_understands(world: World) -> None:
    """aktualizr-lite would take the comment for a part of the path."""
    good = world.sota_toml.read_text()
    world.sota_toml.write_text(good.replace('/pkey.pem"', '/pkey.pem"  # by hand'))

    told(world.rotate(), 78, "aktualizr-lite reads import.tls_pkey_path differently")

    world.check_old_pair_is_live()


def test_credential_in_a_managed_file(world: World) -> None:
    """z-50-fioctl.toml comes from the operator; an edit of ours would be undone."""
    fragments = world.device.directory / "etc" / "sota" / "conf.d"
    fragments.mkdir(parents=True)
    managed = fragments / "z-50-fioctl.toml"
    managed.write_text(
        f'[import]\ntls_pkey_path = "{world.storage}/pkey.pem"\n'
        f'tls_clientcert_path = "{world.storage}/client.pem"\n'
    )
    before = world.files()

    ran = world.rotate("-c", str(world.sota_toml), "-c", str(fragments))

    told(ran, 78, f"{managed} sets import.tls_pkey_path, and that file belongs to the operator")
    check_never_begun(world, before)


def test_key_that_does_not_belong_to_the_certificate(world: World) -> None:
    """Found before the peer gives a riddle for an answer."""
    key = world.storage / "pkey.pem"
    subprocess.run(
        ["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", str(key)],
        check=True,
    )
    before = world.files()

    ran = world.rotate()

    told(ran, 78, f"the key {key} does not belong to the certificate")
    assert before == {n: c for n, c in world.files().items() if n != "fioagent/lock"}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": {"Value": 1}}', b"\xff\xfe"])
def test_config_encrypted_that_is_no_config(world: World, content: bytes) -> None:
    """A rotation would lose what nobody can read."""
    path = world.storage / "config.encrypted"
    path.write_bytes(content)
    before = world.files()

    ran = world.rotate()

    told(ran, 78, f"cannot read {path}: ")
    check_never_begun(world, before)


def test_config_encrypted_with_a_value_for_another_key(world: World) -> None:
    """Named, so that the operator can set it again."""
    path = world.storage / "config.encrypted"
    entries = json.loads(path.read_bytes())
    entries["app-secret"]["Value"] = "AAAA" + entries["app-secret"]["Value"][4:]
    path.write_text(json.dumps(entries))
    before = world.files()

    ran = world.rotate()

    told(ran, 78, f"cannot decrypt app-secret in {path} with the keys of this device")
    check_never_begun(world, before)


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage\n", b'{"RotationId": "certs-1"}', b'2f7a3a57 {"fioagent-journal":1}\n'],
)
def test_corrupt_journal(world: World, content: bytes) -> None:
    """Not guessed around and not overwritten; the live pair is left alone."""
    directory = world.storage / "fioagent"
    directory.mkdir()
    (directory / "rotation.journal").write_bytes(content)

    line = f"cannot read the journal {directory}/rotation.journal: it is damaged"
    for command in ("rotate", "recover", "cancel"):
        told(world.fioagent(command), 78, line)
    status = world.fioagent("status")
    assert status.code == 78
    assert f"problem {line}" in " ".join(status.out.split())
    assert "serial " in status.out

    assert content == (directory / "rotation.journal").read_bytes()
    assert left(world) == {"fioagent/rotation.journal"}
    world.check_old_pair_is_live()


def test_a_token_that_is_named_nowhere(world: World) -> None:
    """The source was changed by hand, and nothing else."""
    good = world.sota_toml.read_text()
    world.sota_toml.write_text(
        good.replace('key_source = "file"', 'key_source = "pkcs11"').replace(
            'cert_source = "file"', 'cert_source = "pkcs11"'
        )
    )

    told(world.rotate(), 78, "p11.module is not set in")


@pytest.mark.parametrize("identifier", ["", "a b", "../x", "x" * 64, "certs\n1"])
def test_rotation_id_that_gateways_drop(world: World, identifier: str) -> None:
    """Events of other ids vanish without a word."""
    before = world.files()

    told(world.rotate("--id", identifier), 78, "cannot use the rotation id")

    check_never_begun(world, before)


def test_sota_toml_changed_by_somebody_else_meanwhile(world: World) -> None:
    """A credential that the rotation does not know is not replaced."""
    world.pause_before_the_commit("certs-1")
    good = world.sota_toml.read_text()
    shutil.copy(world.storage / "pkey.pem", world.storage / "other.pem")
    world.sota_toml.write_text(good.replace("/pkey.pem", "/other.pem"))

    told(world.rotate(), 78, f"sota.toml names {world.storage}/other.pem")

    world.check_reachable()
    world.sota_toml.write_text(good)
    (world.storage / "other.pem").unlink()
    assert world.rotate().code == 0


def register_again(world: World, new_world: Callable[[], World]) -> World:
    """lmp-device-register --force: another identity under the same file names."""
    other = new_world()
    for name in ("client.pem", "pkey.pem"):
        shutil.copy(other.storage / name, world.storage / name)
    return other


def test_device_registered_again_before_the_lock(
    world: World, new_world: Callable[[], World]
) -> None:
    """The rotation of the former identity is over, and the new one is not touched."""
    world.factory.set_knob("est_answer", "503")
    told(world.rotate(), 75, "answered 503")
    other = register_again(world, new_world)

    told(world.rotate(), 1, "is another certificate than the one that it began with")

    assert other.old_key == (world.storage / "pkey.pem").read_bytes()
    assert other.old_certificate == (world.storage / "client.pem").read_bytes()
    assert left(world) == {f"fioagent/{name}" for name in world.journal_names()}


def test_device_registered_again_after_the_lock(
    world: World, new_world: Callable[[], World]
) -> None:
    """Held for the operator; nothing of either identity is replaced or removed."""
    world.pause_before_the_commit("certs-1")
    other = register_again(world, new_world)
    before = world.files()

    told(world.rotate(), 78, "is another certificate than the one that it began with")

    journal = "fioagent/rotation.journal"
    assert {**before, journal: b""} == {**world.files(), journal: b""}
    assert other.old_key == (world.storage / "pkey.pem").read_bytes()


@dataclass
class OwnFactory:
    """A factory of the test's own, whose clock and trust can be changed."""

    factory: Factory
    ahead_s: int = 0


@pytest.fixture
def own(tmp_path: Path) -> OwnFactory:
    made: list[OwnFactory] = []

    def clock() -> float:
        return time.time() + made[0].ahead_s

    made.append(OwnFactory(Factory.create(tmp_path / "own", clock=clock)))
    return made[0]


@pytest.mark.parametrize("configured", [True, False])
def test_gateway_that_keeps_its_lock_on_the_way_back(
    own: OwnFactory, tmp_path: Path, configured: bool
) -> None:
    """The old pair is live at once; when the gateway takes the new one, it goes on.

    The new key stays: the gateway's copy of the configuration opens with nothing else.
    """
    with own.factory.serving() as urls:
        world = World(own.factory, urls, tmp_path / "device")
        if configured:
            world.give_config()
        world.set_setting('[rotation]\ntrust_check = "none"')
        own.factory.set_knob("est_ca", "foreign-ca")
        for _ in range(2):
            told(world.rotate("--id", "certs-1"), 75, "answered 409")

            assert world.live_pair()[1] == world.storage / "pkey.pem"
            world.check_reachable()
            assert (world.storage / "pkey.certs-1.pem").exists()
            if configured:
                world.check_every_value_opens_with_a_key_at_hand()
    cloud.trust(own.factory, own.factory.authority("foreign-ca").certificate)

    with own.factory.serving():
        ran = world.rotate()

        assert ran.code == 0, ran.err
        world.check_reachable()
        world.check_nothing_left_behind()
        if configured:
            assert world.opened_config() == world.opened_device_config()
    assert world.event_names()[-1] == ("CertRotationCompleted", True)


def test_gateway_that_takes_the_new_pair_from_somebody_else_on_the_way_back(world: World) -> None:
    """Power fails on the way back, another program uses the new pair, and the gateway switches."""
    world.pause_before_the_commit("certs-1")
    world.make_the_gateway_forget_the_new_key()
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("before check", nth=3), "certs-1")
    status = world.fioagent("status", "--json").lines[0]["rotation"]
    assert status["phase"] == "reverting"
    world.factory.set_knob("second_lock", "replace")
    world.announce(world.key().public_key(), world.old_pair())
    world.check_reachable()

    assert world.rotate().code == 0

    world.check_reachable()
    world.check_nothing_left_behind()


class AnswersTheSecondTime:
    """``ports.Gateway`` that refuses the new pair once, then takes it and answers nonsense."""

    def __init__(self, gateway: Any) -> None:
        self._gateway = gateway

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gateway, name)

    checks = 0

    def check(self) -> int:
        type(self).checks += 1
        if self.checks == 1:
            raise CredentialRefusedError("the gateway refuses us", status=403)
        self._gateway.check()
        raise PeerError("the gateway answered 400", status=400)


def test_answer_to_the_new_pair_that_is_no_refusal_of_it(world: World) -> None:
    """The gateway has switched over: going back would show it a key that it denies."""
    AnswersTheSecondTime.checks = 0

    outcome = rotate_with(world, AnswersTheSecondTime, "certs-1")

    assert outcome.result is Result.TRY_AGAIN
    world.check_reachable()
    assert world.rotate().code == 0


def test_old_key_that_cannot_be_read_when_it_is_needed_once_more(world: World) -> None:
    """What it opens is not lost yet: it is kept until a person has looked."""
    before = (world.storage / "config.encrypted").read_bytes()
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("before check"), "certs-1")
    (world.storage / "config.encrypted").write_bytes(before)
    (world.storage / "pkey.pem").write_bytes(b"damaged")

    told(world.rotate(), 78, f"cannot read the private key {world.storage}/pkey.pem")

    assert (world.storage / "pkey.pem").read_bytes() == b"damaged"
    (world.storage / "pkey.pem").write_bytes(world.old_key)
    assert world.rotate().code == 0
    assert world.opened_config() == world.opened_device_config()


def test_gateway_that_shows_its_configuration_no_more(world: World) -> None:
    """It was re-encrypted before; a rotation that is confirmed does not hang on a second look."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("before check"), "certs-1")
    world.factory.set_knob("config_device", "404")

    ran = world.rotate()

    assert ran.code == 0, ran.err
    world.check_nothing_left_behind()


@pytest.mark.parametrize("point", ["before patch_config", "before check"])
def test_lock_that_lapsed(own: OwnFactory, tmp_path: Path, point: str) -> None:
    """Announced again where the gateway has forgotten it."""
    with own.factory.serving() as urls:
        world = World(own.factory, urls, tmp_path / "device")
        world.give_config()
        own.factory.set_knob("lock_lifetime_s", "60")
        with pytest.raises(PowerCutError):
            rotate(world, StopAt(point), "certs-1")
        own.ahead_s = 3600

        ran = world.rotate()

        assert ran.code == 0, ran.err
        assert world.ask("/config", world.old_pair()).status_code == 403


def test_open_rotation_asked_to_go_on_with_other_files(world: World) -> None:
    """The files that it was begun with are those that are edited, whoever goes on with it."""
    world.pause_before_the_commit("certs-1")
    copy = world.device.directory / "copy.toml"
    shutil.copy(world.sota_toml, copy)

    before = copy.read_bytes()

    assert world.rotate("-c", str(copy)).code == 0

    assert before == copy.read_bytes()
    assert world.live_pair()[1].name == "pkey.certs-1.pem"
    world.check_reachable()


def test_other_programs_that_read_another_file(world: World) -> None:
    """-c must not retire a pair that aktualizr-lite goes on to read from elsewhere."""
    fragments = world.device.directory / "conf.d"
    fragments.mkdir()
    (fragments / "z-pair.toml").write_text(
        f'[import]\ntls_pkey_path = "{world.storage}/pkey.pem"\n'
        f'tls_clientcert_path = "{world.storage}/client.pem"\n'
    )
    before = world.files()

    ran = world.fioagent(
        "rotate",
        "--now",
        "-c",
        str(world.sota_toml),
        environ={"SOTA_DIR": f"{world.sota_toml},{fragments}"},
    )

    told(ran, 78, "would go on naming the old pair")
    check_never_begun(world, before)


def test_clock_that_fell_back_before_the_certificate_is_judged(world: World) -> None:
    """A good certificate is not thrown away because the device booted in 1970."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("before handshake"), "certs-1")
    clock = StoppedClock(datetime(1970, 1, 2, tzinfo=timezone.utc))

    with agent.opened([], world.device.env, clock=clock) as opened:
        outcome = opened.rotate(now=True, est_url=None, rotation_id=None, watch=lambda _: None)

    assert outcome.result is Result.TRY_AGAIN
    assert "the clock says 1970" in outcome.message
    world.factory.clear_requests()
    assert world.rotate().code == 0
    assert world.factory.requests("est") == []


def test_alert_of_nobody(world: World) -> None:
    """Anybody on the line can send an alert in the clear; it is not the gateway's word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_with_an_alert, args=(listener,))
        thread.start()
        url = f"https://localhost:{listener.getsockname()[1]}/.well-known/est"
        ran = world.rotate("--id", "certs-1", "--est-server", url)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()

    told(ran, 75, "cannot speak TLS")
    check_open(world, "key-generated", "certs-1")


def answer_with_an_alert(listener: socket.socket) -> None:
    """access_denied, in reply to each ClientHello."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.recv(4096)
            connection.sendall(bytes.fromhex("15030300020231"))


def test_words_of_others_do_not_reach_the_terminal_raw(world: World) -> None:
    """Names in the configuration are anybody's text."""
    path = world.storage / "config.encrypted"
    path.write_text(json.dumps({"\x1b[2J\nfioagent: all is well": {"Value": "AAAA"}}))

    ran = world.rotate()

    told(ran, 78, "cannot decrypt [2J fioagent: all is well in")
    assert ran.err.replace("\n", "").isprintable()


def test_longest_wait_that_the_factory_can_ask_for(world: World) -> None:
    """A week at most; tests/est/of_waiting.py has those of a hundred digits."""
    world.factory.set_knob("est_answer", "503")
    world.factory.set_knob("est_retry_after_s", "999999")

    told(world.rotate(), 75, "answered 503")

    told(world.fioagent("rotate"), 75, "next try at")


def test_certificate_file_that_holds_its_issuer_too(world: World) -> None:
    """The leaf alone is sent: estserver answers 401 to two certificates."""
    issuer = (world.factory.paths.directory / "pki" / "local-ca.pem").read_bytes()
    path = world.storage / "client.pem"
    path.write_bytes(path.read_bytes() + issuer)

    assert world.rotate().code == 0

    assert world.live_pair()[0].read_bytes().count(b"BEGIN CERTIFICATE") == 1


def test_trust_file_that_holds_the_issuer_of_the_certificate(world: World) -> None:
    """OpenSSL would add it to what the device sends."""
    issuer = (world.factory.paths.directory / "pki" / "local-ca.pem").read_bytes()
    roots = world.storage / "root.crt"
    roots.write_bytes(roots.read_bytes() + issuer)

    assert world.rotate().code == 0


@pytest.mark.parametrize("year", [1970, 2025])
def test_clock_that_cannot_be_right(world: World, year: int) -> None:
    """Never rotate because of it or with it: the device waits for the time."""
    before = world.files()
    clock = StoppedClock(datetime(year, 1, 2, tzinfo=timezone.utc))

    with (
        agent.opened([], world.device.env, clock=clock) as opened,
        pytest.raises(TemporaryError, match=f"the clock says {year}-01-02 00:00 UTC"),
    ):
        opened.rotate(now=True, est_url=None, rotation_id=None, watch=lambda _: None)

    check_never_begun(world, before)


def test_second_process_says_who_holds_the_lock(world: World) -> None:
    """One lock for all processes."""
    directory = world.storage / "fioagent"
    directory.mkdir()
    lock = directory / "lock"
    lock.write_text("fioagent rotate (process 4711)\n")
    holder = subprocess.Popen(
        ["flock", str(lock), "sh", "-c", "echo held; read line"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"

    told(world.rotate(), 75, "cannot start: fioagent rotate (process 4711) is at work")

    holder.communicate("\n", timeout=10)
    assert world.rotate().code == 0


# --- the disk ---


@pytest.fixture
def small_disk(world: World) -> Iterator[World]:
    """The device's storage on a file system of its own, of 1 MiB and 64 files."""
    needs.root_and("mount", "umount")
    aside = world.storage.with_name("aside")
    shutil.copytree(world.storage, aside, symlinks=True)
    options = "size=1m,nr_inodes=64,mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "lab", str(world.storage)], check=True)
    try:
        shutil.copytree(aside, world.storage, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(aside)
        yield world
    finally:
        subprocess.run(["umount", str(world.storage)], check=True)


def test_full_disk_is_found_before_the_first_write(small_disk: World) -> None:
    """By its free space; the message says how much is needed."""
    before = small_disk.files()
    filler = small_disk.storage / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk.storage).free))

    ran = small_disk.rotate()

    told(ran, 78, "0 KiB free, ")
    filler.unlink()
    check_never_begun(small_disk, before)
    assert small_disk.rotate().code == 0


def test_disk_without_room_for_one_more_file(small_disk: World) -> None:
    """The very first write fails: said plainly, nothing half-written."""
    before = small_disk.files()
    for number in range(os.statvfs(small_disk.storage).f_favail):
        (small_disk.storage / f"filler-{number}").touch()

    ran = small_disk.rotate()

    told(ran, 78, "no space left on device")
    assert "free some space" in ran.err
    for filler in small_disk.storage.glob("filler-*"):
        filler.unlink()
    check_never_begun(small_disk, before)
    assert small_disk.rotate().code == 0
