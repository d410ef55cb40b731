"""Rotations of a key in a TPM 2.0: tpm2-pkcs11 in front of swtpm.

tpm2-pkcs11 derives from 1.9.1 on. What an older one cannot do is shown where the
machine has that, as Debian 12; ``test_debian13.py`` runs this file beside 1.9.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fioagent.factory import Factory, Urls
from fioagent.factory.cli.main import main
from fioagent.keystore.token import KEY_CLASSES
from fioagent.keystore.token_key import TokenKey
from fioagent.rotation.rotator import Result
from tests.token_world import TokenWorld
from tests.tokens import tpm_derives, tpm_token
from tests.world import BUNDLE, SECRET


@pytest.fixture
def world(served: tuple[Factory, Urls], tmp_path: Path) -> Iterator[TokenWorld]:
    with tpm_token(tmp_path / "tpm") as token:
        yield TokenWorld(*served, tmp_path / "device", token)


@pytest.mark.skipif(tpm_derives(), reason="this tpm2-pkcs11 derives")
def test_a_tpm_that_does_not_derive_is_refused_before_anything_changes(world: TokenWorld) -> None:
    before = world.token.objects()

    ran = world.rotate()

    assert ran.code == 78
    assert "it signs, but it does not derive" in ran.err
    assert "tpm2-pkcs11 1.9.1 or later" in ran.err
    assert world.token.objects() == before
    assert world.journal() is None
    assert world.fioagent("check-in").code == 0


@pytest.mark.skipif(not tpm_derives(), reason="this tpm2-pkcs11 does not derive")
def test_the_slots_swap(world: TokenWorld) -> None:
    """Twice in a row; handles that a TPM mixes up would show here."""
    world.give_config()

    for ids in (("07", "09"), ("01", "03"), ("07", "09")):
        ran = world.rotate()
        assert ran.code == 0, ran.err
        assert world.live_ids() == ids
        assert len(world.token.objects()) == 3
        extracted = world.extracted()
        assert extracted["app-secret"] == SECRET
        assert extracted["certs/ca-bundle.pem"] == BUNDLE


@pytest.mark.skipif(not tpm_derives(), reason="this tpm2-pkcs11 does not derive")
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_either_version_of_tls_will_do(world: TokenWorld, version: str) -> None:
    """They have the key sign different things."""
    world.give_config()
    world.check_tls(version)


@pytest.mark.skipif(not tpm_derives(), reason="this tpm2-pkcs11 does not derive")
def test_ten_rotations_leave_nothing_in_the_tpm(world: TokenWorld) -> None:
    """Neither objects of the module, nor what the TPM itself has room for three of."""
    for day in range(10):
        at = datetime.now(timezone.utc) + timedelta(days=day)
        assert world.rotate_at(at, f"certs-{day}").result is Result.COMPLETED
        assert len(world.token.objects()) == 3
    for kind in ("handles-loaded-session", "handles-saved-session"):
        assert world.token.run("tpm2_getcap", kind) == ""
    assert world.live_ids() == ("01", "03")


@pytest.mark.skipif(not tpm_derives(), reason="this tpm2-pkcs11 does not derive")
def test_the_demo_proves_a_rotation(capfd: pytest.CaptureFixture[str]) -> None:
    """With a TPM that ends with it."""
    assert main(["demo", "--token", "swtpm"]) == 0

    said = capfd.readouterr().out
    assert said.endswith("all checks passed\n")
    assert "the gateway denies the old key" in said


@pytest.mark.skipif(not tpm_derives(), reason="this tpm2-pkcs11 does not derive")
def test_a_key_that_has_derived_can_be_destroyed(tmp_path: Path) -> None:
    """tpm2-pkcs11 counts it as in use for as long as it is initialised."""
    with tpm_token(tmp_path / "tpm") as made, made.opened() as token:
        token.generate(b"\1", "tls")
        key = TokenKey(token, b"\1")
        other = ec.generate_private_key(ec.SECP256R1())

        shared = key.exchange(ec.ECDH(), other.public_key())
        assert shared == other.exchange(ec.ECDH(), key.public_key())
        for kind in KEY_CLASSES:
            token.destroy(kind, b"\1", "tls")

        assert token.objects(b"\1") == []
