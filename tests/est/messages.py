"""Certs-only messages in every encoding of the field, and in those of nobody (RFC 5652)."""

from __future__ import annotations

from typing import Final

from tests.unit.made import oid, tlv

DATA: Final = "2a864886f70d010701"
SIGNED_DATA: Final = "2a864886f70d010702"
ENVELOPED_DATA: Final = "2a864886f70d010703"
EMPTY_E_CONTENT: Final = bytes.fromhex("a0020400")
EMPTY_CRLS: Final = bytes.fromhex("a100")
SHA256_DIGEST: Final = tlv(0x30, oid("608648016503040201"), b"\x05\x00")


def indefinite(tag: int, *contents: bytes) -> bytes:
    return bytes([tag, 0x80]) + b"".join(contents) + b"\x00\x00"


def long_form(tag: int, *contents: bytes) -> bytes:
    """BER with a length in four octets where fewer would do."""
    content = b"".join(contents)
    return bytes([tag, 0x84]) + len(content).to_bytes(4, "big") + content


def signed_data(  # the fields of RFC 5652 section 5.1
    *choices: bytes,
    version: int = 1,
    digests: bytes = b"",
    e_content: bytes = b"",
    crls: bytes = b"",
    signers: bytes = b"",
    how: object = tlv,
) -> bytes:
    """SignedData around CertificateChoices; ``how`` makes what may be BER."""
    around = how if callable(how) else tlv
    return bytes(
        around(
            0x30,
            tlv(0x02, bytes([version])),
            tlv(0x31, digests),
            around(0x30, oid(DATA), e_content),
            around(0xA0, *choices),
            crls,
            around(0x31, signers),
        )
    )


def content_info(inside: bytes, *, kind: str = SIGNED_DATA, how: object = tlv) -> bytes:
    around = how if callable(how) else tlv
    return bytes(around(0x30, oid(kind), around(0xA0, inside)))


def certs_only(*choices: bytes) -> bytes:
    """As RFC 7030 section 4.2.3 has it."""
    return content_info(signed_data(*choices))


def ber(*choices: bytes) -> bytes:
    """As BouncyCastle and EJBCA: every length around the certificates left open."""
    return content_info(signed_data(*choices, how=indefinite), how=indefinite)


def deep(levels: int = 50_000) -> bytes:
    """Opened, and never closed."""
    return b"\x30\x80" + oid(SIGNED_DATA) + b"\xa0\x80" + b"\x30\x80" * levels
