"""Keys and certificates in files of their own, 0600, each one written once and never changed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fioagent import causes, pem_files
from fioagent.errors import ConfigError
from fioagent.model import CredentialRef, ObjectIds, RotationId, Store
from fioagent.ports import Disk
from fioagent.x509 import Certificate, CertificateError, NotEllipticError, private_key

if TYPE_CHECKING:
    import ssl

# Fixed names that fiotest, fio-diag and customers' containers open.
STABLE_KEY: Final = "pkey.pem"
STABLE_CERTIFICATE: Final = "client.pem"
_CURVES: Final[Mapping[str, ec.EllipticCurve]] = {
    curve.name: curve for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())
}


class FileKeyStore:
    """``ports.KeyStore`` for ``tls.pkey_source = "file"``."""

    def __init__(self, disk: Disk, storage: str) -> None:
        """``storage`` is storage.path, where others look for pkey.pem and client.pem."""
        self._disk = disk
        self._storage = storage

    def place_for(
        self, rotation: RotationId, live: CredentialRef, wanted: ObjectIds
    ) -> CredentialRef:
        """Named after the rotation, so that a repeat finds its own."""
        del live, wanted
        return CredentialRef(
            Store.FILE,
            os.path.join(self._storage, f"pkey.{rotation}.pem"),
            os.path.join(self._storage, f"client.{rotation}.pem"),
        )

    def require_free(self, credential: CredentialRef) -> None:
        for path in (credential.key, credential.certificate):
            if self._disk.is_there(path):
                raise ConfigError.of(causes.PLACE_TAKEN, {"path": path})

    def generate(
        self,
        credential: CredentialRef,
        like: CredentialRef,
        *,
        announced: bool,
        curve: str | None = None,
    ) -> None:
        if self._disk.is_there(credential.key):
            # An earlier run's: places are not used again. Whole, because it was renamed there.
            made = self.private_key(credential).curve.name
            if announced or curve in (None, made):
                return
        kind = self.private_key(like).curve if curve is None else _CURVES[curve]
        key = ec.generate_private_key(kind)
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        self._disk.replace(credential.key, pem, mode=0o600)

    def has_key(self, credential: CredentialRef) -> bool:
        return self._disk.is_there(credential.key)

    def private_key(self, credential: CredentialRef) -> ec.EllipticCurvePrivateKey:
        try:
            return private_key(self._disk.read(credential.key))
        except NotEllipticError as error:
            raise ConfigError(
                f"cannot use the private key {credential.key}: {error}",
                hint="the device's configuration is encrypted to EC keys; register it again",
            ) from None
        except ValueError as error:
            raise ConfigError(f"cannot read the private key {credential.key}: {error}") from None

    def certificate(self, credential: CredentialRef) -> Certificate | None:
        content = self._disk.read_if_there(credential.certificate)
        if content is None:
            return None
        try:
            return Certificate.from_pem(content)
        except CertificateError as error:
            raise ConfigError(
                f"cannot read the certificate {credential.certificate}: {error}"
            ) from error

    def store_certificate(self, credential: CredentialRef, certificate: Certificate) -> None:
        self._disk.replace(credential.certificate, certificate.pem, mode=0o600)

    def pairs(self) -> list[tuple[Certificate, CredentialRef]]:
        keys = pem_files.keys(self._disk, self._storage)
        return [
            (each, CredentialRef(Store.FILE, keys[each.spki_der][0], path))
            for path, each in pem_files.certificates(self._disk, self._storage)
            if each.spki_der in keys
        ]

    def use_for_tls(self, credential: CredentialRef, context: ssl.SSLContext) -> None:
        certificate = self.certificate(credential)
        if certificate is None:
            raise ConfigError(f"cannot find the certificate {credential.certificate}")
        try:
            # The file may hold its issuer too, and OpenSSL would send both.
            with _in_memory(certificate.pem) as leaf:
                context.load_cert_chain(leaf, credential.key, password=_no_password)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise ConfigError(
                f"cannot use {credential.certificate} with {credential.key}: {_reason(error)}"
            ) from error

    def settle(self, credential: CredentialRef) -> None:
        self._disk.settle([credential.key, credential.certificate])

    def destroy(self, credential: CredentialRef) -> None:
        self._disk.remove(credential.key)
        self._disk.remove(credential.certificate)

    def retire(self, old: CredentialRef, new: CredentialRef) -> None:
        self._replace_name(old.key, new.key, STABLE_KEY)
        self._replace_name(old.certificate, new.certificate, STABLE_CERTIFICATE)

    def close(self) -> None:
        """Nothing is held open."""

    def _replace_name(self, old: str, new: str, stable_name: str) -> None:
        """``old`` is gone, and the stable name, where there is one, is a link to ``new``.

        Registration gives the first pair the stable names themselves: there the
        link takes the place of the old file in one rename.
        """
        live = self._disk.real_path(new)
        stable = os.path.join(self._disk.real_path(self._storage), stable_name)
        for path in (self._disk.real_path(old), self._place(old)):
            if path not in (stable, live):
                self._disk.remove(path)
        if self._disk.is_there(stable) and self._disk.real_path(stable) != live:
            self._disk.link(stable, os.path.relpath(live, os.path.dirname(stable)))

    def _place(self, path: str) -> str:
        """``path`` itself, a link or not, with only its directory resolved."""
        directory, name = os.path.split(path)
        return os.path.join(self._disk.real_path(directory), name)


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """A path that OpenSSL can read ``content`` from, without a file on the disk."""
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _no_password() -> bytes:
    """Keeps OpenSSL from asking at the terminal."""
    return b""


def _reason(error: OSError | ValueError) -> str:
    import ssl  # noqa: PLC0415  # "fioagent status" loads us, and no TLS

    if isinstance(error, ssl.SSLError):
        return (error.reason or "not a PEM pair").replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error)
