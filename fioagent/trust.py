"""The roots that servers are trusted by, and how one takes another's place.

One file, ``import.tls_cacert_path``, replaced at once and by an operator's word alone
(docs/adr/0012). A root goes out only when the gateway has just been reached under those
that stay; so whatever is cut or repeated, the gateway that there is can be reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509

from fioagent import chain
from fioagent.errors import AgentError, ConfigError
from fioagent.model import sha256_hex
from fioagent.rotation.preflight import require_clock, require_pair
from fioagent.site import Device
from fioagent.x509 import Certificate, CertificateError, pem_certificates

MAX_ROOTS = 16


@dataclass(frozen=True, slots=True)
class Root:
    """A root of the trust file, and whether the gateway was reached under it alone."""

    certificate: Certificate
    reached: bool
    why_not: str = ""

    @property
    def sha256(self) -> str:
        return sha256_hex(self.certificate.der)


def looked_at(device: Device) -> list[Root]:
    """Every root, tried at the gateway by a handshake without a request."""
    return [_probed(device, root) for root in device.sessions.trusted_roots()]


def _probed(device: Device, root: Certificate) -> Root:
    try:
        device.sessions.probe_gateway(device.live_credential(), root.pem)
    except AgentError as error:
        return Root(root, reached=False, why_not=str(error))
    return Root(root, reached=True)


def add(device: Device, path: str) -> list[Certificate]:
    """The roots in ``path`` that were not trusted yet; they are now, beside all the others.

    Raises:
        ConfigError: nothing in it, or something that is no root; nothing was changed.
    """
    certificate = require_pair(device, device.live_credential())
    require_clock(device, certificate)
    wanted = _read(device, path)
    known = device.sessions.trusted_roots()
    new = [each for each in wanted if each.der not in {root.der for root in known}]
    if len(known) + len(new) > MAX_ROOTS:
        raise ConfigError(f"cannot add {path}: more than {MAX_ROOTS} roots")
    for root in new:
        _require_root(device, root, path)
    if new:
        # Behind what is there, byte for byte: it works.
        before = device.disk.read(_path(device)).rstrip() + b"\n"
        _write(device, before + _pem(new))
    return new


def retire(device: Device, sha256: str) -> Certificate | None:
    """The root with this digest, which is not trusted any more; None where it was not before.

    Raises:
        TemporaryError: the gateway was not reached under those that stay.
        ConfigError: no other is left.
    """
    wanted = sha256.replace(":", "").lower()
    roots = device.sessions.trusted_roots()
    kept = [root for root in roots if sha256_hex(root.der) != wanted]
    if len(kept) == len(roots):
        return None
    if not kept:
        raise ConfigError(
            "cannot retire the only root: nothing would be trusted any more",
            hint="add its successor first, with 'fioagent trust add'",
        )
    device.sessions.probe_gateway(device.live_credential(), _pem(kept))
    _write(device, _pem(kept))
    return next(root for root in roots if root not in kept)


def _read(device: Device, path: str) -> list[Certificate]:
    try:
        found = pem_certificates(device.disk.read(path))
    except CertificateError as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if not found:
        raise ConfigError(f"cannot add {path}: no PEM certificate in it")
    return found


def _require_root(device: Device, root: Certificate, path: str) -> None:
    wrong = f"cannot add {path}: {root.subject!r}"
    try:
        constraints = root.parsed.extensions.get_extension_for_class(x509.BasicConstraints).value
        is_ca = constraints.ca
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        is_ca = False
    if not is_ca or root.issuer_der != root.subject_der:
        raise ConfigError(f"{wrong} is no root certificate")
    if not root.not_before <= device.clock.now() < root.not_after:
        raise ConfigError(f"{wrong} is not valid now")
    try:
        chain.path(root, [], [root], device.clock.now())  # its own signature
        chain.require_strong(root)
    except chain.ChainError as error:
        raise ConfigError(f"{wrong} is damaged or too weak: {error}") from error


def _path(device: Device) -> str:
    return device.disk.real_path(device.sota().require("import.tls_cacert_path"))


def _write(device: Device, content: bytes) -> None:
    """All of it at once; then programs that have the former content in memory start anew."""
    device.disk.replace(_path(device), content, mode=0o644)
    changed = device.clock.moment()
    for unit in device.settings.services_restart:
        device.services.restart(unit, changed)


def _pem(roots: Sequence[Certificate]) -> bytes:
    return b"".join(root.pem for root in roots)
