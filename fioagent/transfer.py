"""What EST servers put around DER: base64, in every shape that is in the field. Pure.

RFC 8951 section 3.1: white space anywhere is tolerated, whatever a header says of
the encoding. Everything else is refused, and the line says what it is.
"""

from __future__ import annotations

import base64
import re
from typing import Final, NamedTuple

_ALPHABET: Final = re.compile(rb"[A-Za-z0-9+/]*(={0,2})")
_FOREIGN: Final = re.compile(rb"[^A-Za-z0-9+/=]")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_ARMOUR: Final = re.compile(
    rb"-----BEGIN (PKCS7|CMS)-----\s(.*)\s-----END \1-----", re.DOTALL
)  # aziot takes it, so servers send it


class TransferError(ValueError):
    """Not base64 of anything; the text says why."""


class Decoded(NamedTuple):
    """DER, and what is worth a word about how it came."""

    der: bytes
    notes: tuple[str, ...] = ()


def decoded(body: bytes) -> Decoded:
    """DER out of an answer's body.

    libest ends some answers with a NUL. Binary DER (OpenXPKI's output.encoding)
    cannot be mistaken: base64 of a SEQUENCE starts with "M", never with the byte 0x30.

    Raises:
        TransferError: empty, another alphabet, padding that is not there.
    """
    if body[:1] == b"\x30":
        return Decoded(body, ("the server sent binary DER, not base64",))
    text = body.strip().removesuffix(b"\x00").strip()
    armour = _ARMOUR.fullmatch(text)
    if armour is not None:
        return Decoded(_from_base64(armour.group(2)), ("the server sent PEM, not base64 alone",))
    return Decoded(_from_base64(text))


def _from_base64(text: bytes) -> bytes:
    compact = b"".join(text.split())
    if not compact:
        raise TransferError("it is empty")
    if compact.startswith(_BYTE_ORDER_MARK):
        raise TransferError("not base64: it begins with a byte order mark")
    if compact.startswith(b"-----"):
        raise TransferError("not base64: it is PEM, and not of a PKCS#7 message")
    foreign = _FOREIGN.search(compact)
    if foreign is not None:
        if foreign.group() in b"-_":
            raise TransferError("not base64: it is base64url")
        raise TransferError(f"not base64: byte {foreign.group()[0]:#04x} in it")
    if len(compact) % 4 or not _ALPHABET.fullmatch(compact):
        raise TransferError("not base64: its padding is wrong, or it was cut off")
    return base64.b64decode(compact)


def encoded(der: bytes) -> bytes:
    """Base64 as every server tried takes it.

    64 columns and a newline at the end: libest refuses a body without one.
    """
    text = base64.b64encode(der)
    return b"".join(text[at : at + 64] + b"\n" for at in range(0, len(text), 64))
