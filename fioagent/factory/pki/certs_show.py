"""Certificates and revocation lists in words, as ``fioctl keys ca show --pretty`` puts them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from fioagent.factory.pki.certs import DeviceCa

PURPOSES: Final = {
    ExtendedKeyUsageOID.SERVER_AUTH: "ServerAuth",
    ExtendedKeyUsageOID.CLIENT_AUTH: "ClientAuth",
}
USAGES: Final = {
    "digital_signature": "digitalSignature",
    "key_encipherment": "keyEncipherment",
    "key_agreement": "keyAgreement",
    "key_cert_sign": "keyCertSign",
    "crl_sign": "cRLSign",
}
# fioctl's words for the reasons of a list; any other revokes.
REASONS: Final = {
    x509.ReasonFlags.certificate_hold: "Disable - 6",
    x509.ReasonFlags.remove_from_crl: "Renew - 8",
    x509.ReasonFlags.privilege_withdrawn: "Revoke - 9",
}


def all_of(shown: Mapping[str, Any], *, pretty: bool) -> Iterator[str]:
    """Everything that GET shows, under headings."""
    meta = shown["change-meta"]
    yield "## Change Metadata"
    for what in ("created", "updated"):
        yield f"{what.capitalize()} at: {meta[f'{what}-at']}"
        yield f"{what.capitalize()} by: {meta[f'{what}-by']}"
    for heading, name in (
        ("Factory root certificate", "root-crt"),
        ("Server TLS Certificate", "tls-crt"),
        ("Device Authentication Certificate(s)", "ca-crt"),
    ):
        yield f"## {heading}"
        yield from some(shown[name], pretty=pretty)
    if shown["disabled-ca-serials"]:
        yield "## Disabled Device Certificate Serial(s)"
        yield from shown["disabled-ca-serials"]


def some(pem: str, *, pretty: bool) -> Iterator[str]:
    """The PEM as it is, or each certificate in words."""
    if not pretty:
        yield pem.rstrip("\n")
    elif pem:
        for certificate in x509.load_pem_x509_certificates(pem.encode()):
            yield from described(certificate)


def described(certificate: x509.Certificate) -> Iterator[str]:
    yield "Certificate:"
    yield f"\tSerial Number: {certificate.serial_number}"
    yield f"\tIssuer: {_name(certificate.issuer)}"
    yield "\tValidity"
    yield f"\t\tNot Before: {certificate.not_valid_before_utc:%F %T} UTC"
    yield f"\t\tNot After: {certificate.not_valid_after_utc:%F %T} UTC"
    yield f"\tSubject: {_name(certificate.subject)}"
    yield "\tExtensions:"
    for extension in certificate.extensions:
        said = _value(extension.value)
        if said:
            critical = " (critical)" if extension.critical else ""
            yield f"\t\t{said}{critical}"


def _name(name: x509.Name) -> str:
    return name.rfc4514_string()


def _value(value: x509.ExtensionType) -> str:
    """Empty for what a person does not look for."""
    if isinstance(value, x509.BasicConstraints):
        length = "" if value.path_length is None else f" MaxPath {value.path_length}"
        return f"Basic Constraints: CA:{str(value.ca).upper()}{length}"
    if isinstance(value, x509.KeyUsage):
        held = [name for attribute, name in USAGES.items() if getattr(value, attribute)]
        return f"Key Usage: {' '.join(held)}"
    if isinstance(value, x509.ExtendedKeyUsage):
        held = [PURPOSES.get(purpose, purpose.dotted_string) for purpose in value]
        return f"Extended Key Usage: {' '.join(held)}"
    if isinstance(value, x509.SubjectAlternativeName):
        names = [f"DNS:{name}" for name in value.get_values_for_type(x509.DNSName)]
        names += [f"IP:{address}" for address in value.get_values_for_type(x509.IPAddress)]
        return f"Subject Alternative Name: {' '.join(names)}"
    return ""


def described_list(pem: str) -> Iterator[str]:
    """A revocation list that we have just made."""
    listed = x509.load_pem_x509_crl(pem.encode())
    yield "Certificate Revocation List:"
    yield f"\tIssuer: {_name(listed.issuer)}"
    yield "\tValidity:"
    yield f"\t\tNot Before: {listed.last_update_utc:%F %T} UTC"
    yield f"\t\tNot After: {listed.next_update_utc:%F %T} UTC"
    yield "\tRevoked Certificates:"
    for entry in listed:
        yield f"\t\tSerial: {entry.serial_number}"
        reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
        yield f"\t\t\tReason: {REASONS[reason]}"


def states(cas: list[DeviceCa], dependants: Mapping[str, int]) -> Iterator[str]:
    """One line for each device CA: who it is, what it may, who needs it."""
    for ca in cas:
        until = f"{ca.certificate.not_valid_after_utc:%F}"
        needed = f"devices={dependants.get(ca.serial, 0)}"
        yield f"{ca.serial} {ca.state} {needed} until={until} {_name(ca.certificate.subject)}"
