"""Rotations of a key that never leaves its token: SoftHSM, the real servers, the real command."""

from __future__ import annotations

import os
import resource
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final, cast

import pytest
from cryptography import x509

import fioagent
from fioagent import agent
from fioagent.errors import ConfigError
from fioagent.factory import Factory, Urls
from fioagent.factory.fleet.hsm import PIN
from fioagent.keystore.token import Token
from fioagent.keystore.token_store import TokenKeyStore
from fioagent.model import CredentialRef, Store
from fioagent.rotation import preflight
from fioagent.rotation.rotator import Result
from tests import needs
from tests.est_peer import Answer, serving
from tests.fioconfig_token import NEW, STEPS, TokenFioconfig
from tests.test_est_client import P384, wants
from tests.token_world import TokenWorld
from tests.tokens import SOFTHSM, soft_token
from tests.unit.made import fill
from tests.world import BUNDLE, SECRET, Ran, StoppedClock

LIVE: Final = CredentialRef(Store.PKCS11, "01", "03")


@pytest.fixture
def world(token_world: TokenWorld) -> TokenWorld:
    return token_world


def test_the_slots_swap(world: TokenWorld) -> None:
    """Twice in a row; each time one pair is left, and the configuration opens with it."""
    world.give_config()
    assert world.live_ids() == ("01", "03")

    ran = world.rotate()

    assert ran.code == 0, ran.err
    assert world.live_ids() == ("07", "09")
    assert world.token.objects() == [
        ("Certificate", "client", "09"),
        ("Private Key", "tls", "07"),
        ("Public Key", "tls", "07"),
    ]
    assert world.extracted()["app-secret"] == SECRET
    again = world.rotate()
    assert again.code == 0, again.err
    assert world.live_ids() == ("01", "03")
    assert len(world.token.objects()) == 3
    assert world.extracted()["certs/ca-bundle.pem"] == BUNDLE


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_either_version_of_tls_will_do(world: TokenWorld, version: str) -> None:
    """They have the key sign different things."""
    world.give_config()
    world.check_tls(version)


# --- what is not ours ---


@pytest.mark.parametrize("kind", ["key", "certificate"])
def test_objects_of_others_are_neither_used_nor_removed(world: TokenWorld, kind: str) -> None:
    """A customer keeps a pair at 07 and 09; the operator gives other ids, and theirs stay."""
    if kind == "key":
        world.token.make_key("07", "customer")
    else:
        world.token.put_certificate("09", world.storage / "client.pem", "customer")
    before = world.token.objects()

    ran = world.rotate()

    assert ran.code == 78
    assert f"cannot use the id 0{'7' if kind == 'key' else '9'} in the token 'aktualizr'" in ran.err
    assert "with the label 'customer' has it" in ran.err
    assert world.token.objects() == before
    assert world.journal() is None
    done = world.fioagent(
        *("renew-cert", "--pkcs11-key-ids=01,02", "--pkcs11-cert-ids=03,04"),
        *(world.urls.est, "certs-2"),
    )
    assert done.code == 0, done.err
    assert world.live_ids() == ("02", "04")
    assert {each for each in before if each[1] == "customer"} <= set(world.token.objects())


def test_the_ids_of_the_settings_count_less_than_those_of_an_operator(world: TokenWorld) -> None:
    """A device whose objects of others are at 07 and 09 says so once, in its image."""
    world.token.make_key("07", "customer")
    world.set_setting('[token]\nkey_ids = ["01", "02"]\ncertificate_ids = ["03", "04"]')

    for ids in (("02", "04"), ("01", "03")):
        ran = world.rotate()
        assert ran.code == 0, ran.err
        assert world.live_ids() == ids
    world.factory.rotate_certs(
        world.uuid, rotation_id="certs-1", hsm_pkey_ids="01,05", hsm_cert_ids="03,06"
    )
    assert world.fioagent("check-in").code == 0
    assert world.rotate().code == 0
    assert world.live_ids() == ("05", "06")
    given = ("--pkcs11-key-ids=05,08", "--pkcs11-cert-ids=06,09", world.urls.est, "certs-2")
    assert world.fioagent("renew-cert", *given).code == 0
    assert world.live_ids() == ("08", "09")


def test_an_id_that_has_several_meanings_is_refused(world: TokenWorld) -> None:
    """Fioconfig would look for 01 00, aktualizr-lite for 10."""
    ran = world.fioagent("renew-cert", "--pkcs11-key-ids=01,10", world.urls.est, "certs-1")

    assert ran.code == 78
    assert "cannot use the object id '10'" in ran.err


def test_a_device_that_was_registered_again_goes_on_from_there(
    world: TokenWorld, tmp_path: Path
) -> None:
    """With the ids that an open rotation has chosen: giving that up removes nothing live."""
    assert world.rotate("--id", "certs-1").code == 0
    world.factory.set_knob("est_answer", "500")
    assert world.rotate("--id", "certs-2").code == 75
    world.factory.set_knob("est_answer", "normal")
    world.token.tool("--delete-object", "--type", "privkey", "--id", "01")
    world.token.tool("--delete-object", "--type", "pubkey", "--id", "01")
    again = TokenWorld(world.factory, world.urls, tmp_path / "again", world.token)
    (world.storage / "sota.toml").write_text(
        (again.storage / "sota.toml").read_text().replace(str(again.storage), str(world.storage))
    )

    ran = world.rotate("--id", "certs-3")

    assert ran.code == 0, ran.err
    assert world.live_ids() == ("07", "09")
    told = world.factory.events(again.uuid)[-1]
    assert (told["eventType"]["id"], told["event"]["success"]) == ("CertRotationCompleted", True)


# --- a token that will not ---


def test_a_wrong_pin_is_tried_once(world: TokenWorld) -> None:
    """A TPM locks after three; the next command is a person's decision."""
    world.edit_sota(PIN, "0000")

    ran = world.rotate()

    assert ran.code == 78
    assert "the PIN is wrong" in ran.err
    assert "0000" not in ran.out + ran.err


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (SOFTHSM, "/nowhere/libpkcs11.so", "cannot load the PKCS#11 module /nowhere/libpkcs11.so"),
        (SOFTHSM, "/bin/true", "cannot load the PKCS#11 module /bin/true"),
        ("[p11]", '[p11]\nlabel = "other"', "there is no such token"),
        ('tls_pkey_id = "01"', 'tls_pkey_id = "02"', "no public key with the id 02"),
        ('tls_clientcert_id = "03"', 'tls_clientcert_id = "04"', "cannot find the certificate 04"),
    ],
)
def test_what_is_missing_is_named(world: TokenWorld, name: str, value: str, said: str) -> None:
    world.edit_sota(name, value)
    before = world.token.objects()

    ran = world.rotate()

    assert ran.code == 78
    assert len(ran.err.splitlines()) <= 3
    assert said in " ".join(ran.err.split())
    assert world.token.objects() == before
    assert world.journal() is None


def test_a_token_that_was_wiped_is_said_so(world: TokenWorld) -> None:
    shutil.rmtree(world.token.directory / "tokens")
    (world.token.directory / "tokens").mkdir()

    ran = world.rotate()

    assert ran.code == 78
    assert "there is no such token" in ran.err


def test_a_key_that_does_not_derive_is_refused_before_anything_changes(
    served: tuple[Factory, Urls], tmp_path: Path
) -> None:
    """It could prove itself to the gateway, and open no value of the configuration."""
    token = soft_token(tmp_path / "token", "--usage-sign")
    world = TokenWorld(*served, tmp_path / "device", token)
    before = world.token.objects()

    ran = world.rotate()

    assert ran.code == 78
    assert "it signs, but it does not derive" in ran.err
    assert world.token.objects() == before
    assert world.journal() is None


def test_a_curve_that_no_token_makes_is_refused_before_there_is_a_key(world: TokenWorld) -> None:
    """RFC 7030 section 4.5: the EST server asks for P-384. A dry run says so as well."""
    before = world.token.objects()
    with serving(world) as peer:
        peer.answers["/csrattrs"] = lambda _: wants(P384)
        asked = ("--est-server", peer.url)

        ran = world.rotate(*asked)
        tried = world.fioagent("est", "reenroll", "--dry-run", *asked)
        explained = world.fioagent("est", "csrattrs", *asked)

        assert peer.asked("/simplereenroll") == []
    assert ran.code == 78
    assert "cannot make a key on secp384r1" in ran.err
    assert world.token.objects() == before
    assert tried.code == 1
    assert "a key on secp384r1, and in a token P-256 alone is made" in tried.err
    assert "cannot be done: the server asks for a key on secp384r1" in explained.out
    assert "secp384r1: done" not in explained.out


def test_a_key_that_does_not_derive_is_renewed_before_it_is_too_late(
    served: tuple[Factory, Urls], tmp_path: Path
) -> None:
    """In the last tenth of its certificate's life the device counts for more than a value."""
    token = soft_token(tmp_path / "token", "--usage-sign")
    world = TokenWorld(*served, tmp_path / "device", token)
    leaf = x509.load_pem_x509_certificate((world.storage / "client.pem").read_bytes())
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    clock = StoppedClock(leaf.not_valid_before_utc + life * 0.91)

    with world.token.at_hand(), agent.opened([], world.device.env, clock=clock) as opened:
        live = opened.device.live_credential()
        found = preflight.check(opened.device, NEW, adopted=False, seen=[])

    assert (found.live, list(found.lost)) == (live, [])


@pytest.fixture
def full_world(served: tuple[Factory, Urls], tmp_path: Path) -> Iterator[TokenWorld]:
    """Its token is on a file system of its own, of 256 KiB and 64 files."""
    needs.root_and("mount", "umount")
    disk = tmp_path / "disk"
    disk.mkdir()
    options = "size=256k,nr_inodes=64,mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "lab", str(disk)], check=True)
    try:
        world = TokenWorld(*served, tmp_path / "device", soft_token(disk / "token"))
        world.give_config()
        yield world
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize(
    ("pages", "said"),
    [
        (0, "cannot make a key in the token 'aktualizr'"),
        (1, "cannot make a key in the token 'aktualizr'"),
        (2, "cannot store a certificate in the token 'aktualizr'"),
    ],
)
def test_a_full_disk_below_a_token_holds_a_rotation_until_there_is_room(
    full_world: TokenWorld, pages: int, said: str
) -> None:
    """For nothing, for half a key, and for a key without its certificate."""
    world, live = full_world, {("Certificate", "client", "03"), ("Private Key", "tls", "01")}
    filler = fill(world.token.directory.parent)
    os.truncate(filler, filler.stat().st_size - pages * resource.getpagesize())

    ran = world.rotate("--id", "certs-1")

    assert ran.code == 75
    message, hint = ran.err.splitlines()
    assert said in message
    assert message.split(": the token did not do it (")[1] in (
        *("FunctionFailed)", "ObjectHandleInvalid)"),  # as SoftHSM calls a full disk
    )
    assert "is there room where its store is" in hint
    assert world.live_ids() == ("01", "03")
    assert live <= set(world.token.objects())
    assert world.extracted()["app-secret"] == SECRET
    assert world.fioagent("check-in").code == 0
    filler.unlink()
    again = world.rotate("--id", "certs-1")
    assert again.code == 0, again.err
    assert world.live_ids() == ("07", "09")
    assert len(world.token.objects()) == 3
    assert world.extracted()["app-secret"] == SECRET


def test_a_token_whose_disk_has_no_room_for_a_file_is_said_so(full_world: TokenWorld) -> None:
    world, before = full_world, full_world.token.objects()
    disk = world.token.directory.parent
    for number in range(os.statvfs(disk).f_favail):
        (disk / f"filler-{number}").touch()

    ran = world.rotate("--id", "certs-1")

    assert ran.code == 75
    assert ": the token did not do it (GeneralError)\n  is there room where its store" in ran.err
    assert world.token.objects() == before
    for filler in disk.glob("filler-*"):
        filler.unlink()
    assert world.rotate("--id", "certs-1").code == 0


def test_no_pin_stands_anywhere_but_in_sota_toml(world: TokenWorld) -> None:
    world.give_config()
    ran = world.rotate("--json")

    assert ran.code == 0
    assert PIN not in ran.out + ran.err
    holders = [
        path.name
        for path in world.device.directory.rglob("*")
        if path.is_file() and PIN.encode() in path.read_bytes()
    ]
    assert holders == ["sota.toml"]


# --- an EST server that wants another curve ---


def test_a_rotation_that_was_refused_for_its_curve_goes_on_as_the_hint_says(
    world: TokenWorld,
) -> None:
    with serving(world) as peer:
        peer.answers["/csrattrs"] = lambda _: wants(P384)
        check_refused_for_its_curve(world, world.rotate("--est-server", peer.url))

        world.set_est("csrattrs = false")
        again = world.rotate()

    assert again.code == 0, again.err
    assert world.live_ids() == ("07", "09")


def test_a_curve_that_is_asked_for_late_is_refused_with_the_key_that_is_there(
    world: TokenWorld,
) -> None:
    """The server could not be asked before there was a key; now it can, and wants another."""
    with serving(world) as peer:
        peer.answers["/csrattrs"] = lambda _: Answer(raw=b"")
        peer.answers["/simplereenroll"] = lambda _: Answer(503)
        assert world.rotate("--id", "certs-1", "--est-server", peer.url).code == 75
        made = world.token.public_key("07")
        peer.answers["/csrattrs"] = lambda _: wants(P384)
        peer.answers["/simplereenroll"] = peer.enrolled

        ran = world.rotate("--id", "certs-1")

        check_refused_for_its_curve(world, ran)
        assert world.token.public_key("07") == made
        world.set_est("csrattrs = false")
        again = world.rotate("--id", "certs-1")
        assert again.code == 0, again.err
    assert world.live_ids() == ("07", "09")
    assert world.token.public_key("07") == made


def check_refused_for_its_curve(world: TokenWorld, ran: Ran) -> None:
    assert ran.code == 78, ran.err
    message, hint = ran.err.splitlines()
    assert "cannot make a key on secp384r1 in the token 'aktualizr'" in message
    assert "est.csrattrs = false" in hint
    assert world.live_ids() == ("01", "03")
    assert world.fioagent("check-in").code == 0


# --- what others have left ---


@pytest.mark.parametrize("recovered", [False, True], ids=["at once", "after recover"])
@pytest.mark.parametrize("steps", range(len(STEPS) + 1))
def test_a_rotation_of_fioconfig_is_taken_over(
    world: TokenWorld, steps: int, recovered: bool
) -> None:
    """With the key that it has made, because the gateway may know it already."""
    world.give_config()
    TokenFioconfig(world).run(steps)
    made = world.token.public_key("07") if steps else None

    if recovered:
        assert world.fioagent("recover").code == 0
    ran = world.rotate()

    assert ran.code == 0, ran.err
    assert world.live_ids() == ("07", "09")
    assert made in (None, world.token.public_key("07"))
    assert len(world.token.objects()) == 3
    assert world.extracted()["app-secret"] == SECRET
    assert not (world.storage / "cert-rotation.state").exists()
    marker = (world.storage / "cert-rotation.state.completed").read_text()
    assert marker.startswith('{"RotationId":"certs-1",')


def test_leftovers_of_an_earlier_rotation_make_room(world: TokenWorld) -> None:
    """Fioconfig keeps the pair before; a killed process leaves half a key."""
    world.token.make_key("07")
    world.token.tool("--delete-object", "--type", "privkey", "--id", "07")
    world.token.put_certificate("09", world.storage / "client.pem")

    ran = world.rotate()

    assert ran.code == 0, ran.err
    assert len(world.token.objects()) == 3


def test_ten_rotations_leave_no_more_than_one(world: TokenWorld) -> None:
    """Neither objects in the token nor, in one process, open files."""
    opened = []
    for day in range(10):
        at = datetime.now(timezone.utc) + timedelta(days=day)
        assert world.rotate_at(at, f"certs-{day}").result is Result.COMPLETED
        assert len(world.token.objects()) == 3
        opened.append(len(os.listdir("/proc/self/fd")))
    assert world.live_ids() == ("01", "03")
    assert opened[0] == opened[-1]


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_live_pair_is_readable_by_openssl_as_aktualizr_does(
    world: TokenWorld, version: str
) -> None:
    """libp11's engine by the object id alone, TLS 1.2 and 1.3."""
    assert world.rotate().code == 0

    out = world.token.run(
        *("openssl", "s_client", "-quiet", f"-tls{version.replace('.', '_')}"),
        *("-engine", "pkcs11", "-keyform", "engine"),
        *("-key", f"pkcs11:token=aktualizr;id=%07;type=private;pin-value={PIN}"),
        *("-cert", str(world.certificate_file("09"))),
        *("-CAfile", str(world.storage / "root.crt"), "-verify_return_error"),
        *("-connect", world.urls.gateway.removeprefix("https://"), "-servername", "localhost"),
        stdin="GET /device HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        code=None,  # the server closes without a word, which it holds against it
        PKCS11_MODULE_PATH=SOFTHSM,
    )

    assert out.startswith("HTTP/1.1 200")


def test_the_pin_may_be_a_credential_of_the_unit(world: TokenWorld, tmp_path: Path) -> None:
    """Then sota.toml needs none, and the unit's counts where it has one."""
    world.edit_sota(PIN, "0000")
    (tmp_path / "fioagent-p11-pin").write_text(f"{PIN}\n")

    ran = world.fioagent("rotate", "--now", environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})

    assert ran.code == 0, ran.err


def test_a_token_that_signs_with_another_key_gets_no_certificate(world: TokenWorld) -> None:
    """A module that mixes up its handles is noticed before the request leaves the device."""
    world.token.make_key("07")

    with world.token.opened() as token:
        store = TokenKeyStore(cast("Token", MixedUp(token)), lambda: LIVE)
        with pytest.raises(ConfigError, match="what it signs does not fit its public half"):
            store.generate(NEW, LIVE, announced=True)


class MixedUp:
    """A token that signs with the key 01 whatever it is asked for."""

    def __init__(self, token: Token) -> None:
        self.point = token.point
        self._token = token

    def sign(self, identifier: bytes, digest: bytes) -> bytes:
        del identifier
        return self._token.sign(b"\1", digest)


def test_a_module_that_hangs_ends_its_worker_and_not_the_service(
    world: TokenWorld, tmp_path: Path
) -> None:
    """The next check-in is another process; here the module waits for ever for its settings."""
    os.mkfifo(tmp_path / "hangs")
    notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notified.bind(str(tmp_path / "notify"))
    notified.settimeout(60)
    program = [sys.executable, "-m", "fioagent"]
    worker = tmp_path / "worker"
    worker.write_text(f'#!/bin/sh\nexec {shlex.join(program)} "$@"\n')
    worker.chmod(0o755)
    resident = Path(fioagent.__file__).with_name("resident.py")
    environ = {**os.environ, **world.device.env, "NOTIFY_SOCKET": str(tmp_path / "notify")}
    environ |= {"SOFTHSM2_CONF": str(tmp_path / "hangs"), "DAEMON_INTERVAL": "1"}
    command = [sys.executable, "-I", "-S", str(resident), "3", "3", str(worker)]
    with notified, subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL) as service:
        said = ""
        for _ in range(2):
            while "check-in was ended: it took too long" not in said:
                said = notified.recv(4096).decode()
            said = ""
        service.terminate()
        assert service.wait(60) == 0
