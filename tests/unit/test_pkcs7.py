"""Certificates out of every certs-only message seen in the field, byte for byte."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from hypothesis import given
from hypothesis import strategies as st

from fioagent.pkcs7 import MAX_CERTIFICATES, Pkcs7Error, certificates

from . import made

_CA = made.authority()
_LEAF = _CA.issue(made.new_key().public_key())
_CHAIN = [made.der(_LEAF), made.der(_CA.certificate)]
_DATA = "2a864886f70d010701"
_SIGNED_DATA = "2a864886f70d010702"
_NO_SIGNERS = made.tlv(0x31)


def _message(
    *choices: bytes,
    e_content: bytes = b"",
    behind: bytes = b"",
    signers: bytes = _NO_SIGNERS,
    digests: bytes = b"",
    content_type: str = _SIGNED_DATA,
) -> bytes:
    """ContentInfo with SignedData, RFC 5652 section 5.1."""
    encapsulated = made.tlv(0x30, made.oid(_DATA), e_content)
    signed = made.tlv(
        0x30,
        made.tlv(0x02, b"\x01"),
        made.tlv(0x31, digests),
        encapsulated,
        made.tlv(0xA0, *choices),
        behind,
        signers,
    )
    return made.tlv(0x30, made.oid(content_type), made.tlv(0xA0, signed))


def _indefinite(tag: int, *contents: bytes) -> bytes:
    return bytes([tag, 0x80]) + b"".join(contents) + b"\x00\x00"


def test_certificates_of_another_library_come_back() -> None:
    """What ``cryptography`` packs, in the order of the message."""
    message = pkcs7.serialize_certificates([_LEAF, _CA.certificate], Encoding.DER)

    found = certificates(message)

    assert sorted(_CHAIN) == sorted(found)
    assert sorted(message.index(each) for each in found) == [message.index(e) for e in found]


def test_certificates_of_openssl_come_back(tmp_path: Path) -> None:
    """``openssl crl2pkcs7 -nocrl``, with which many EST servers answer."""
    chain = tmp_path / "chain.pem"
    chain.write_bytes(made.pem(_LEAF) + made.pem(_CA.certificate))
    command = ["openssl", "crl2pkcs7", "-nocrl", "-certfile", str(chain), "-outform", "DER"]

    message = subprocess.run(command, check=True, capture_output=True).stdout

    assert _CHAIN == certificates(message)


def test_indefinite_lengths_are_read() -> None:
    """BouncyCastle leaves every length around the certificates open."""
    signed = _indefinite(
        0x30,
        made.tlv(0x02, b"\x01"),
        made.tlv(0x31),
        _indefinite(0x30, made.oid(_DATA)),
        _indefinite(0xA0, *_CHAIN),
        _indefinite(0x31),
    )
    message = _indefinite(0x30, made.oid(_SIGNED_DATA), _indefinite(0xA0, signed))

    assert _CHAIN == certificates(message)


@pytest.mark.parametrize(
    "message",
    [
        _message(*_CHAIN, behind=b"\xa1\x00"),
        _message(*_CHAIN, behind=made.tlv(0xA1, made.tlv(0x30, b"\x05\x00"))),
        _message(*_CHAIN, e_content=bytes.fromhex("a0020400")),
        _message(*_CHAIN, signers=made.tlv(0x31, made.tlv(0x30))),
        _message(*_CHAIN, digests=made.tlv(0x30, made.oid("608648016503040201"))),
    ],
    ids=["empty crls", "filled crls", "empty eContent", "a signer", "a digest algorithm"],
)
def test_pieces_that_nobody_needs_are_skipped(message: bytes) -> None:
    """Servers in the field send them with a certs-only answer."""
    assert _CHAIN == certificates(message)


@pytest.mark.parametrize("tag", [0xA0, 0xA1, 0xA2, 0xA3], ids=hex)
def test_other_kinds_of_certificate_are_skipped(tag: int) -> None:
    """RFC 5652 section 10.2.2: extended, attribute and other certificates."""
    other = made.tlv(tag, made.tlv(0x02, b"\x01"))

    assert _CHAIN == certificates(_message(other, _CHAIN[0], other, _CHAIN[1]))


def test_the_order_is_the_senders() -> None:
    assert _CHAIN[::-1] == certificates(_message(*_CHAIN[::-1]))


def test_no_certificates_is_an_empty_list() -> None:
    """Whether that is an error is for the reader of the list to say."""
    without_field = made.tlv(
        0x30,
        made.oid(_SIGNED_DATA),
        made.tlv(
            0xA0,
            made.tlv(
                0x30,
                made.tlv(0x02, b"\x01"),
                made.tlv(0x31),
                made.tlv(0x30, made.oid(_DATA)),
                _NO_SIGNERS,
            ),
        ),
    )

    assert [] == certificates(_message())
    assert [] == certificates(without_field)


def test_thirty_two_certificates_are_the_most() -> None:
    assert MAX_CERTIFICATES == len(certificates(_message(*[b"\x30\x00"] * MAX_CERTIFICATES)))

    with pytest.raises(Pkcs7Error, match="33 certificates where at most 32"):
        certificates(_message(*[b"\x30\x00"] * (MAX_CERTIFICATES + 1)))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"<html>",
        b"\x30\x00",
        made.tlv(0x30, made.oid(_SIGNED_DATA)),
        made.tlv(0x30, made.oid(_SIGNED_DATA), b"\xa0\x00"),
        made.tlv(0x30, made.oid(_SIGNED_DATA), made.tlv(0xA0, b"\x30\x00")),
        made.tlv(0x30, made.oid(_SIGNED_DATA), made.tlv(0xA0, b"\x04\x00")),
        _message(*_CHAIN, content_type="2a864886f70d010703"),
        _message(*_CHAIN) + b"\x00",
        _CHAIN[0],
    ],
    ids=[
        "nothing",
        "text",
        "empty sequence",
        "no content",
        "empty content",
        "empty SignedData",
        "an octet string",
        "enveloped data",
        "trailing byte",
        "a bare certificate",
    ],
)
def test_anything_else_is_refused(message: bytes) -> None:
    with pytest.raises(Pkcs7Error, match="not a certs-only PKCS#7 message"):
        certificates(message)


def test_every_cut_is_refused() -> None:
    """An answer that was cut off gives no certificate at all."""
    message = _message(*_CHAIN, behind=b"\xa1\x00")

    for cut in range(len(message)):
        with pytest.raises(Pkcs7Error):
            certificates(message[:cut])


@pytest.mark.parametrize("opening", [b"\x30\x80", b"\x30\x84\x00\x01\x00\x00"])
def test_deep_nesting_is_refused(opening: bytes) -> None:
    """A hostile answer ends in our error, not in that of the interpreter."""
    inside = opening * 50_000
    message = b"\x30\x80" + made.oid(_SIGNED_DATA) + b"\xa0\x80" + inside

    with pytest.raises(Pkcs7Error):
        certificates(message)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_else(message: bytes) -> None:
    with pytest.raises(Pkcs7Error):
        certificates(message)


@given(st.integers(0, 110), st.binary(min_size=1, max_size=4))
def test_a_damaged_message_raises_nothing_else(place: int, damage: bytes) -> None:
    """Bytes overwritten in the frame: certificates or Pkcs7Error, never a crash."""
    message = bytearray(_message(*_CHAIN))
    message[place : place + len(damage)] = damage

    try:
        found = certificates(bytes(message))
    except Pkcs7Error:
        return

    assert all(each in message for each in found)


def test_what_comes_out_is_a_certificate() -> None:
    """The bytes parse as those that were issued."""
    (found, _) = certificates(_message(*_CHAIN))

    assert _LEAF == x509.load_der_x509_certificate(found)
