"""The roots that servers are trusted by, and how one takes another's place.

One file, ``import.tls_cacert_path``, replaced at once and by an operator's word alone
(docs/adr/0012). A root goes out only when the gateway has just been reached under those
that stay; so whatever is cut or repeated, the gateway that there is can be reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
        device.sessions.probe(device.live_credential(), root.pem)
    except AgentError as error:
        return Root(root, reached=False, why_not=str(error))
    return Root(root, reached=True)


def add(device: Device, path: str) -> list[Certificate]:
    """The roots in ``path`` that were not trusted yet; they are now, beside all the others.

    Raises:
        ConfigError: nothing in it, or something that is no root; nothing was changed.
    """
    require_clock(device, require_pair(device, device.live_credential()))
    new = extend(device, _read(device, path), path)
    restart(device)  # also where nothing was new: a run before may have been cut here
    return new


def extend(device: Device, wanted: Sequence[Certificate], source: str) -> list[Certificate]:
    """Those of ``wanted`` that were not trusted yet; they are now. Nothing is restarted.

    Raises:
        ConfigError: one of them is no root, by what ``source`` says; nothing was changed.
    """
    known = device.sessions.trusted_roots()
    new = [each for each in wanted if each.der not in {root.der for root in known}]
    if len(known) + len(new) > MAX_ROOTS:
        raise ConfigError(f"cannot add {source}: more than {MAX_ROOTS} roots")
    for root in new:
        _require_root(device, root, source)
        _require_told_apart(root, known, source)
    if new:
        # Behind what is there, byte for byte: it works.
        before = device.disk.read(_path(device)).rstrip() + b"\n"
        device.disk.replace(_path(device), before + _pem(new), mode=0o644)
    return new


def retire(device: Device, sha256: str) -> Certificate | None:
    """The root with this digest, which is not trusted any more; None where it was not before.

    Raises:
        TemporaryError: the gateway was not reached under those that stay.
        ConfigError: no other is left.
    """
    wanted = sha256.replace(":", "").lower()
    roots = device.sessions.trusted_roots()
    gone = [root for root in roots if sha256_hex(root.der) == wanted]
    if not gone:
        return None
    without(device, gone)
    restart(device)
    return gone[0]


def without(device: Device, gone: Sequence[Certificate], est_url: str | None = None) -> None:
    """They are not trusted any more, once the gateway was reached under those that stay.

    And the EST server at ``est_url``, where it is trusted by the same file.

    Raises:
        TemporaryError: it was not. ConfigError: no root would be left.
    """
    refused = {root.der for root in gone}
    kept = [root for root in device.sessions.trusted_roots() if root.der not in refused]
    if not kept:
        raise ConfigError(
            "cannot retire the only root: nothing would be trusted any more",
            hint="add its successor first, with 'fioagent trust add'",
        )
    device.sessions.probe(device.live_credential(), _pem(kept))
    if est_url is not None and device.settings.est_trust_file is None:
        device.sessions.probe(device.live_credential(), _pem(kept), est_url)
    device.disk.replace(_path(device), _pem(kept), mode=0o644)


def restart(device: Device) -> None:
    """Programs that have the former roots in memory."""
    changed = device.clock.moment()
    for unit in device.settings.services_restart:
        device.services.restart(unit, changed)


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
    if not chain.says_ca(root) or root.issuer_der != root.subject_der:
        raise ConfigError(f"{wrong} is no root certificate")
    if not root.not_before <= device.clock.now() < root.not_after:
        raise ConfigError(f"{wrong} is not valid now")
    try:
        chain.path(root, [], [root], device.clock.now())  # its own signature
        chain.require_strong(root)
    except chain.ChainError as error:
        raise ConfigError(f"{wrong} is damaged or too weak: {error}") from error


def _require_told_apart(root: Certificate, known: Sequence[Certificate], source: str) -> None:
    """TLS libraries look an issuer up by its name, and by its key identifier: the first fits."""
    own = chain.subject_key_id(root)
    for each in known:
        if each.subject_der != root.subject_der or each.spki_der == root.spki_der:
            continue
        if own is None or own == chain.subject_key_id(each):
            raise ConfigError(
                f"cannot add {source}: {root.subject!r} cannot be told from the root of the same "
                "name that is trusted: it has no subject key identifier of its own"
            )


def _path(device: Device) -> str:
    return device.disk.real_path(device.sota().require("import.tls_cacert_path"))


def _pem(roots: Sequence[Certificate]) -> bytes:
    return b"".join(root.pem for root in roots)
