"""Disabling and revoking a device CA: which one, who depends on it, and the signed list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from fioagent.factory.errors import FactoryError
from fioagent.factory.pki.certificates import Authority
from fioagent.factory.pki.directory import load_certificate

# What fioctl writes. The cloud revokes for any reason but certificateHold and removeFromCRL.
DISABLE: Final = x509.ReasonFlags.certificate_hold
REVOKE: Final = x509.ReasonFlags.privilege_withdrawn
LIST_LIFE: Final = timedelta(minutes=15)  # it is used at once, or never


def serials(directory: Path, files: Iterable[str], given: Iterable[str]) -> list[str]:
    """Of all that ``--ca-file`` and ``--ca-serial`` name, once each. FactoryError: none, or bad."""
    found = []
    for serial in given:
        if not (serial.isascii() and serial.isdigit()):
            raise FactoryError(
                f"cannot use the serial number {serial!r}: it has to be decimal",
                "hint: `fioagent-factory keys ca show LAB --pretty` shows them",
            )
        found.append(str(int(serial)))
    found += [str(_certificate(directory, file).serial_number) for file in files]
    if not found:
        raise FactoryError("cannot choose a device CA: give --ca-file or --ca-serial")
    return list(dict.fromkeys(found))


def _certificate(directory: Path, file: str) -> x509.Certificate:
    """A file name of the PKI directory, with .pem or without, or a path."""
    for path in (directory / file, directory / f"{file}.pem", Path(file)):
        if path.is_file():
            return load_certificate(path)
    raise FactoryError(f"cannot find the device CA {file}: there is no such file in {directory}")


def revocation_list(root: Authority, serials: Sequence[str], reason: x509.ReasonFlags) -> str:
    """PEM, good for a quarter of an hour."""
    now = datetime.now(timezone.utc).replace(microsecond=0)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(root.certificate.subject)
        .last_update(now)
        .next_update(now + LIST_LIFE)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(root.key_identifier(), critical=False)
    )
    for serial in serials:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(int(serial))
            .revocation_date(now)
            .add_extension(x509.CRLReason(reason), critical=False)
            .build()
        )
    listed = builder.sign(root.key, hashes.SHA256())
    return listed.public_bytes(serialization.Encoding.PEM).decode("ascii")


def check_revocable(wanted: Sequence[str], dependants: Mapping[str, int], *, force: bool) -> None:
    """FactoryError: devices would be stranded, and nobody insists on it."""
    stranded = {serial: n for serial in wanted if (n := dependants.get(serial, 0))}
    if stranded and not force:
        shown = ", ".join(f"{n} of {serial}" for serial, n in stranded.items())
        raise FactoryError(
            f"cannot revoke: devices still have certificates of these device CAs: {shown};"
            " they could no longer connect",
            "hint: rotate their certificates first (keys ca disable-device-ca, rotate-certs),"
            " or strand them with --force",
        )
