"""What modules of the field do wrong, and that nobody notices it behind ``keystore.token``.

With SoftHSM, and with tpm2-pkcs11 in front of swtpm; each rule was seen to be needed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from pkcs11 import ObjectClass

from fioagent.errors import ConfigError
from fioagent.factory.fleet.hsm import LABEL
from fioagent.keystore.token import KEY_CLASSES, Token
from fioagent.keystore.token_errors import Place
from fioagent.keystore.token_key import TokenKey
from tests.tokens import LabToken, soft_token, tpm_token


@pytest.fixture
def tpm(tmp_path: Path) -> Iterator[LabToken]:
    with tpm_token(tmp_path / "tpm") as token:
        yield token


@pytest.fixture
def soft(tmp_path: Path) -> LabToken:
    return soft_token(tmp_path / "soft")


def signs_with_its_own_key(token: Token, identifier: bytes) -> bool:
    digest = hashlib.sha256(os.urandom(8)).digest()
    public = TokenKey(token, identifier).public_key()
    try:
        public.verify(
            token.sign(identifier, digest), digest, ec.ECDSA(utils.Prehashed(hashes.SHA256()))
        )
    except InvalidSignature:
        return False
    return True


def test_tpm_a_slot_that_is_used_again_has_its_own_key(tpm: LabToken) -> None:
    """tpm2-pkcs11 hands out handles twice once an object was destroyed: the wrong key signs."""
    with tpm.opened() as token:
        for identifier in (b"\1", b"\7"):
            token.generate(identifier, "tls")
        before = {identifier: token.point(identifier) for identifier in (b"\1", b"\7")}

        for kind in KEY_CLASSES:
            token.destroy(kind, b"\1", "tls")
        assert signs_with_its_own_key(token, b"\7")
        token.generate(b"\1", "tls")

        assert token.point(b"\1") not in before.values()
        assert token.point(b"\7") == before[b"\7"]
        assert signs_with_its_own_key(token, b"\1")
        assert signs_with_its_own_key(token, b"\7")


def test_tpm_what_another_process_stores_is_found(tpm: LabToken) -> None:
    """tpm2-pkcs11 looks at its store once, when it is initialised."""
    with tpm.opened() as token:
        token.generate(b"\1", "tls")
        dataclasses.replace(tpm, usages=("--usage-sign",)).make_key("05")

        assert signs_with_its_own_key(token, b"\5")


def test_tpm_a_wrong_pin_is_tried_once_by_a_process(tpm: LabToken) -> None:
    """Three wrong ones lock a TPM; two processes that ask three times each have tried two."""
    for _ in range(2):
        with tpm.at_hand():
            token = Token(Place(tpm.module, LABEL), lambda: "0000")
            for _ in range(3):
                with pytest.raises(ConfigError, match="the PIN is wrong"):
                    token.objects(b"\1")

    with tpm.opened() as right:
        assert right.objects(b"\1") == []


def test_tpm_a_locked_pin_is_said_so(tpm: LabToken) -> None:
    for _ in range(4):
        with tpm.at_hand():
            token = Token(Place(tpm.module, LABEL), lambda: "0000")
            with pytest.raises(ConfigError, match="the PIN is") as last:
                token.objects(b"\1")

    assert "the PIN is locked" in str(last.value)


def test_soft_what_a_killed_process_has_left_harms_nobody(soft: LabToken) -> None:
    """SoftHSM's objects are files, and one of them may be torn: a search over all breaks."""
    soft.make_key("01")
    (store,) = (soft.directory / "tokens").iterdir()
    whole = next(path for path in store.glob("*.object") if path.name != "token.object")
    for size in (0, 8, 40, 99):
        torn = store / f"0f0f0f0f-0000-0000-0000-0000000000{size:02}.object"
        torn.write_bytes(whole.read_bytes()[:size])

    with soft.opened() as token:
        assert {each.kind for each in token.objects(b"\1")} == set(KEY_CLASSES)
        token.generate(b"\7", "tls")
        assert signs_with_its_own_key(token, b"\7")


def test_soft_two_keys_with_one_id_are_not_told_apart(soft: LabToken) -> None:
    """Whichever comes first would sign."""
    soft.make_key("01")
    soft.make_key("01", "other")

    with (
        soft.opened() as token,
        pytest.raises(ConfigError, match="more than one public key with the id 01"),
    ):
        token.point(b"\1")


def test_soft_a_label_protects(soft: LabToken) -> None:
    soft.make_key("01", "customer")
    with soft.opened() as token:
        for kind in (*KEY_CLASSES, ObjectClass.CERTIFICATE):
            token.destroy(kind, b"\1", "tls")

        assert len(token.objects(b"\1")) == 2


# python-pkcs11 closes a search that it had open in the session that is gone.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_soft_a_lost_session_is_opened_again(soft: LabToken) -> None:
    """A module that was restarted under us: tee-supplicant, a resource manager."""
    soft.make_key("01")
    with soft.opened() as token:
        assert signs_with_its_own_key(token, b"\1")
        with soft.at_hand():  # initialises the module anew
            pass
        os.environ.update(soft.env)
        assert signs_with_its_own_key(token, b"\1")
