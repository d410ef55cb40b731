"""The root's private key: a file of the PKI directory, or in a PKCS#11 token, where it stays."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from fioagent.factory.errors import FactoryError
from fioagent.factory.fleet.hsm import Hsm, HsmKey, field_of, need
from fioagent.factory.pki.certificates import load_key, new_key, private_pem, public_pem
from fioagent.factory.pki.forms import write_new

KEY_FILE: Final = "factory_ca.key"
# fioctl's builds agree on the label and not on the id, so the label finds it. pkcs11-tool signs
# by an id only.
KEY_LABEL: Final = "root-ca"


class RootKey(Protocol):
    def create(self, directory: Path) -> ec.EllipticCurvePrivateKey:
        """A new one. FactoryError: there is one already, or it cannot be made."""

    def load(self, directory: Path, certificate: x509.Certificate) -> ec.EllipticCurvePrivateKey:
        """The one of the root ``certificate``. FactoryError: it is not to be had."""

    def discard(self, directory: Path) -> None:
        """What was created just now, for a root that nobody has taken."""


class FileKey:
    """``factory_ca.key``, readable by its owner only."""

    def create(self, directory: Path) -> ec.EllipticCurvePrivateKey:
        key = new_key()
        try:
            write_new(directory / KEY_FILE, private_pem(key, traditional=True), 0o400)
        except FileExistsError as error:
            raise FactoryError(
                f"cannot create the root's key: {directory / KEY_FILE} is there already",
                "hint: take another PKI directory; a root's key is never overwritten",
            ) from error
        return key

    def load(self, directory: Path, certificate: x509.Certificate) -> ec.EllipticCurvePrivateKey:
        path = directory / KEY_FILE
        try:
            key = load_key(path.read_bytes())
        except FileNotFoundError as error:
            raise FactoryError(
                f"cannot sign: the root's key {path} is not there",
                "hint: is it in a token? give --hsm-module, --hsm-pin and --hsm-token-label",
            ) from error
        except (ValueError, TypeError) as error:
            raise FactoryError(f"cannot sign: {path} is not an EC private key in PEM") from error
        _check_fits(key, certificate, str(path))
        return key

    def discard(self, directory: Path) -> None:
        (directory / KEY_FILE).unlink()


@dataclass(frozen=True, slots=True)
class TokenKey:
    """In the token with this label; pkcs11-tool works with it."""

    module: str
    token_label: str
    pin: str = field(repr=False)

    def create(self, directory: Path) -> ec.EllipticCurvePrivateKey:
        token = self._token(directory)
        blocks = token.blocks()
        if any(field_of(block, "label") == KEY_LABEL for block in blocks):
            raise FactoryError(
                f"cannot create the root's key: the token {self.token_label!r} has a key"
                f" {KEY_LABEL!r} already",
                "hint: take another token; a root's key is never overwritten",
            )
        taken = {field_of(block, "ID") for block in blocks}
        free = (f"{number:02x}" for number in range(1, 256))
        return token.make_key(next(each for each in free if each not in taken), KEY_LABEL)

    def load(self, directory: Path, certificate: x509.Certificate) -> ec.EllipticCurvePrivateKey:
        token = self._token(directory)
        key = HsmKey(token, self._id(token))
        _check_fits(key, certificate, f"the key {KEY_LABEL!r} of the token {self.token_label!r}")
        return key

    def discard(self, directory: Path) -> None:
        token = self._token(directory)
        identifier = self._id(token)
        for kind in ("privkey", "pubkey"):
            token.tool("--delete-object", "--type", kind, "--id", identifier)

    def _id(self, token: Hsm) -> str:
        """Of the key; no other may have it."""
        keys = [block for block in token.blocks() if block.startswith("Private Key")]
        ids = [field_of(block, "ID") for block in keys]
        ours = [field_of(block, "ID") for block in keys if field_of(block, "label") == KEY_LABEL]
        if not ours:
            raise FactoryError(
                f"cannot sign: the token {self.token_label!r} has no key {KEY_LABEL!r}"
            )
        if ids.count(ours[0]) > 1:
            raise FactoryError(
                f"cannot sign: in the token {self.token_label!r} several keys have the id"
                f" {ours[0]} of {KEY_LABEL!r}, and pkcs11-tool cannot tell them apart",
                "hint: give the others another id: pkcs11-tool --set-id",
            )
        return ours[0]

    def _token(self, directory: Path) -> Hsm:
        need({"pkcs11-tool": "opensc"})
        usages = ("--usage-sign",)
        return Hsm(self.module, directory, {}, usages, self.token_label, self.pin)


def _check_fits(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, where: str) -> None:
    """What another key signs the cloud would refuse, with less to say."""
    if public_pem(key.public_key()) != public_pem(certificate.public_key()):
        raise FactoryError(f"cannot sign: {where} is not the key of this directory's root")


def from_options(module: str | None, pin: str | None, token_label: str | None) -> RootKey:
    """As fioctl's ``--hsm-module``, ``--hsm-pin`` and ``--hsm-token-label`` have it.

    Raises:
        FactoryError: some of the three are missing, or the PIN is not where it is said to be.
    """
    if not (module or pin or token_label):
        return FileKey()
    if not (module and pin and token_label):
        raise FactoryError(
            "cannot use a token: --hsm-module, --hsm-pin and --hsm-token-label go together"
        )
    return TokenKey(module, token_label, _pin(pin))


def _pin(given: str) -> str:
    """``env:NAME`` and ``file:PATH`` keep it out of the list of processes."""
    kind, colon, rest = given.partition(":")
    if colon and kind == "env":
        found = os.environ.get(rest, "")
    elif colon and kind == "file":
        try:
            found = Path(rest).read_text().partition("\n")[0]
        except (OSError, ValueError) as error:
            raise FactoryError(f"cannot read the token's PIN from {rest}: {error}") from error
    else:
        return given
    if not found:
        raise FactoryError(f"cannot use a token: there is no PIN in {given}")
    return found
