"""``fioagent support-bundle``: what helps from afar is in it, and no secret is."""

from __future__ import annotations

import base64
import json
import os
import stat
import tarfile
from pathlib import Path

import pytest

from fioagent.factory import Factory, Urls
from fioagent.factory.fleet.hsm import PIN
from fioagent.keystore import tpm
from tests.token_world import TokenWorld
from tests.tokens import tpm_token
from tests.world import BUNDLE, SECRET, Ran, World

PROXY_PASSWORD = "pr0xy/p@ss"  # noqa: S105  # planted
PLANTED = "plantedQ7value"


def parts(path: Path) -> dict[str, bytes]:
    """Content by name, of a file that only we can read."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with tarfile.open(path) as archive:
        assert all(name.startswith("fioagent-support/") for name in archive.getnames())
        found = {each.name: archive.extractfile(each) for each in archive.getmembers()}
        return {
            name.partition("/")[2]: file.read() for name, file in found.items() if file is not None
        }


def plant_in_files(world: World) -> list[bytes]:
    """Secrets wherever programs of the field leave them; each in the forms that it is there."""
    key = world.live_pair()[1].read_text()
    state = {
        "RotationId": "certs-7",
        "NewKey": key,
        "NewCert": PLANTED,
        "FullConfigEncrypted": PLANTED,
    }
    completed = world.storage / "cert-rotation.state.completed"
    completed.write_text(json.dumps(state))
    (world.storage / "pkey.old.pem").write_text(key)
    toml = world.sota_toml.read_text()
    world.sota_toml.write_text(f'{toml}\n[p11]\nmodule = "/m"\npass = "{PLANTED}-pin"\n')
    journal = world.storage / "fioagent"
    journal.mkdir(exist_ok=True)
    # What should never be there, and would be if somebody made a mistake one day.
    (journal / "damaged.journal").write_text(f"{key}\n{json.dumps(key)}\npassword: {PLANTED}-3\n")
    (journal / "setback.json").write_text(
        json.dumps({"reason": f"cannot use {SECRET.decode()} {BUNDLE.decode()}"})
    )
    (world.storage / "current-target").write_text(
        f"https://user:{PLANTED}-4@registry.example/x\n"
        f"Authorization: Bearer {PLANTED}-5\nTOKEN={PLANTED}-6\n{base64.b64encode(SECRET).decode()}"
    )
    body = "".join(key.splitlines()[1:-1])
    return [PLANTED.encode(), body.encode(), key.splitlines()[1].encode()]


SECRETS = [
    SECRET,
    SECRET.splitlines()[1],
    b"hunter2",
    base64.b64encode(SECRET),
    BUNDLE.splitlines()[1],
    b"PRIVATE KEY",
    b"p@ss",
    b"pr0xy",
]


def check_no_secret(content: dict[str, bytes], secrets: list[bytes]) -> None:
    for name, text in content.items():
        for secret in secrets:
            assert secret not in text, (name, secret)


def test_no_planted_secret_is_in_it(world: World, tmp_path: Path) -> None:
    """sota.toml's PIN, keys, decrypted values, proxy passwords, fioconfig's state, environment."""
    planted = plant_in_files(world)
    secrets = Path(world.device.env["SECRETS_DIR"])
    (secrets / "app-secret").write_bytes(SECRET)
    (secrets / "left-over").write_text(f"{PLANTED}-extracted")
    world.set_setting('[proxy]\nurl = "http://robot:pr0xy%2Fp%40ss@127.0.0.1:9"\nuse_for = ["est"]')
    environ = {
        "HTTPS_PROXY": "http://robot:pr0xy%2Fp%40ss@127.0.0.1:9",
        "FIOAGENT_TOKEN": f"{PLANTED}-7",
        "UNRELATED": f"{PLANTED}-8",
    }
    ran = bundled(world, tmp_path, environ)

    assert ran.code == 0, ran.err
    content = parts(tmp_path / "b.tar.gz")
    check_no_secret(content, [*SECRETS, *planted])
    about = content["README.txt"].decode()
    assert "left out" not in about  # redacted, not dropped


def bundled(world: World, tmp_path: Path, environ: dict[str, str], *arguments: str) -> Ran:
    command = ("support-bundle", str(tmp_path / "b.tar.gz"), *arguments)
    return world.process(*command, before=("env", *(f"{k}={v}" for k, v in environ.items())))


def test_a_token_s_pin_is_not_in_it(token_world: TokenWorld, tmp_path: Path) -> None:
    token_world.give_config()
    (token_world.storage / "fioagent" / "setback.json").write_text(f'{{"reason": "PIN {PIN} no"}}')

    ran = token_world.process("support-bundle", str(tmp_path / "b.tar.gz"))

    assert ran.code == 0, ran.err
    content = parts(tmp_path / "b.tar.gz")
    check_no_secret(content, [*SECRETS[:5]])
    assert "[redacted]" in content["storage/fioagent/setback.json"].decode()
    for name in ("storage/fioagent/setback.json", "doctor.txt", "settings.json", "status.txt"):
        assert PIN.encode() not in content[name].split(), name
    (sota,) = (text for name, text in content.items() if name.endswith("sota.toml"))
    assert PIN.encode() not in sota
    assert b"tls_pkey_id" in sota


def test_a_wrong_pin_is_tried_once(
    served: tuple[Factory, Urls], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A TPM locks after three; status and doctor together must not use them up."""
    with tpm_token(tmp_path / "tpm") as token:
        world = TokenWorld(*served, tmp_path / "device", token)
        world.edit_sota(f'pass = "{PIN}"', 'pass = "0000"')

        ran = world.process("support-bundle", "--offline", str(tmp_path / "b.tar.gz"))

        monkeypatch.setenv("TPM2_PKCS11_TCTI", token.env["TPM2_PKCS11_TCTI"])
        found = tpm.counters()
    assert ran.code == 0, ran.err
    assert found is not None
    assert found.used == 1
    assert b'"pin-wrong"' in parts(tmp_path / "b.tar.gz")["doctor.json"]


def test_a_token_that_hangs_does_not_hold_it_up(token_world: TokenWorld, tmp_path: Path) -> None:
    conf = Path(token_world.token.env["SOFTHSM2_CONF"])
    conf.unlink()
    os.mkfifo(conf)

    command = ("support-bundle", "--offline", "--limit", "8", str(tmp_path / "b.tar.gz"))
    ran = token_world.process(*command)

    assert ran.code == 0, ran.err
    assert b"did not end within 8 s" in parts(tmp_path / "b.tar.gz")["doctor.txt"]


def test_what_helps_from_afar_is_in_it(world: World, tmp_path: Path) -> None:
    world.pause_before_the_commit("certs-1")

    ran = world.process("support-bundle", "--json", str(tmp_path / "b.tar.gz"))

    assert ran.code == 0, ran.err
    (said,) = ran.lines
    assert (said["result"], said["left_out"]) == ("written", [])
    content = {name: text.decode() for name, text in parts(tmp_path / "b.tar.gz").items()}
    assert "rotation certs-1" in content["doctor.txt"]
    assert json.loads(content["status.json"])["rotation"]["id"] == "certs-1"
    assert "origin" in json.loads(content["settings.json"])["est.server"]
    assert "cryptography" in content["versions.txt"]
    assert "certs-1" in content["storage/fioagent/rotation.journal"]
    assert "-----BEGIN CERTIFICATE-----" in content["storage/live-certificate.pem"]
    assert "-----BEGIN CERTIFICATE-----" in content["storage/trusted-roots.pem"]
    assert "-rw" in content["files.txt"]
    assert "pkey.certs-1.pem" in content["files.txt"]
    assert "journal-units.txt" in content
    (sota,) = (text for name, text in content.items() if name.endswith("sota.toml"))
    assert str(world.live_pair()[0]) in sota
    for line in content["doctor.txt"].splitlines():
        assert line.isascii()


def test_it_is_made_of_a_device_that_cannot_be_used(world: World, tmp_path: Path) -> None:
    """That is when it is needed; the forms of secrets are known without the device."""
    world.sota_toml.write_text(f'[p11\npass = "{PLANTED}"\n')

    ran = world.process("support-bundle", str(tmp_path / "b.tar.gz"))

    assert ran.code == 0, ran.err
    content = parts(tmp_path / "b.tar.gz")
    check_no_secret(content, [PLANTED.encode()])
    assert b"not valid TOML" in content["doctor.txt"]


@pytest.mark.parametrize("there", ["file", "link"])
def test_a_file_that_is_there_is_left_alone(world: World, tmp_path: Path, there: str) -> None:
    """It may have other readers, or be what a link in /tmp leads to."""
    path, target = tmp_path / "b.tar.gz", tmp_path / "target"
    if there == "file":
        path.write_bytes(b"mine")
    else:
        path.symlink_to(target)

    ran = world.fioagent("support-bundle", str(path))

    assert ran.code == 78
    assert "it exists already" in ran.err
    assert not target.exists()
    assert there == "link" or path.read_bytes() == b"mine"


def test_the_device_is_as_it_was(world: World, tmp_path: Path) -> None:
    before = world.files()

    assert world.process("support-bundle", "--offline", str(tmp_path / "b.tar.gz")).code == 0

    assert world.files() == before
