"""Base64 in every shape that EST servers send it in; anything else is named."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fioagent.transfer import TransferError, decoded, encoded

_DER = b"\x30\x0c" + bytes(range(250, 256)) * 2
_TEXT = base64.b64encode(_DER)


@pytest.mark.parametrize(
    "body",
    [
        _TEXT,
        _TEXT + b"\n",
        b"\r\n" + _TEXT[:5] + b" \t\r\n" + _TEXT[5:],
        _TEXT + b"\x00",
        _TEXT + b"\n\x00\n",
    ],
)
def test_base64_is_read(body: bytes) -> None:
    assert (_DER, ()) == decoded(body)


@pytest.mark.parametrize(
    "body",
    [
        _DER,
        b"-----BEGIN PKCS7-----\n" + _TEXT + b"\n-----END PKCS7-----\n",
        b"-----BEGIN CMS-----\r\n" + _TEXT + b"\r\n-----END CMS-----",
    ],
)
def test_other_shapes_are_read_with_a_word(body: bytes) -> None:
    found = decoded(body)

    assert (_DER, 1) == (found.der, len(found.notes))


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "it is empty"),
        (b" \n\x00", "it is empty"),
        (base64.urlsafe_b64encode(_DER), "base64url"),
        (_TEXT.rstrip(b"=")[:-1], "padding"),
        (_TEXT[:-1] + b"=" * 4, "padding"),
        (b"=" + _TEXT[:3], "padding"),
        (b"\xef\xbb\xbf" + _TEXT, "byte order mark"),
        (b"<html>", "byte 0x3c in it"),
        (_TEXT + b"\x00\x00", "byte 0x00 in it"),
        (b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----", "PEM, and not of a PKCS"),
        (b"-----BEGIN PKCS7-----\nMAA=\n-----END CMS-----", "PEM, and not of a PKCS"),
    ],
)
def test_anything_else_is_named(body: bytes, complaint: str) -> None:
    with pytest.raises(TransferError, match=complaint):
        decoded(body)


@given(st.binary(max_size=300))
def test_what_we_send_comes_back(der: bytes) -> None:
    """Lines of 64 with a newline at the end: libest refuses a body without one."""
    text = encoded(b"\x30" + der)

    assert text.endswith(b"\n")
    assert max(map(len, text.splitlines())) <= 64
    assert decoded(text).der == b"\x30" + der


@given(st.binary(max_size=100))
def test_arbitrary_bytes_raise_nothing_else(body: bytes) -> None:
    with contextlib.suppress(TransferError):
        decoded(body)
