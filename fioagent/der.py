"""Just enough of ASN.1 to keep the bytes of a certificate as they are.

A device gateway and most EST servers compare names as DER, byte for byte, and
``cryptography`` re-encodes or refuses some that are in the field (T61String
with 8-bit characters). So names travel as bytes, and the
structures around them are read and written here. DER unless ``ber`` is asked
for: Java EST servers send their PKCS#7 with indefinite lengths.

Pure; no recursion deeper than MAX_DEPTH, no memory beyond slices of the input,
and no more than MAX_ELEMENTS of them.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_DEPTH = 16
MAX_ELEMENTS = (
    4096  # in a row; a message of nothing but empty ones would cost a hundred times itself
)

BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
OID = 0x06
SEQUENCE = 0x30
SET = 0x31

_CONSTRUCTED = 0x20
_HIGH_TAG = 0x1F
_INDEFINITE = 0x80
_END_OF_CONTENTS = b"\x00\x00"


class DerError(ValueError):
    """Not the encoding that was expected; the text says what was."""


@dataclass(frozen=True, slots=True)
class Element:
    """One tag-length-value.

    Attributes:
        tag: the identifier octet, class and constructed bit included.
        content: the value octets.
        encoded: the whole element as it stood in the input.
    """

    tag: int
    content: bytes
    encoded: bytes

    def children(self, *, ber: bool = False) -> list[Element]:
        """The elements inside a constructed one, in order."""
        if not self.tag & _CONSTRUCTED:
            raise DerError(f"tag {self.tag:#04x} holds no elements")
        return read_all(self.content, ber=ber)

    def expect(self, tag: int) -> Element:
        if self.tag != tag:
            raise DerError(f"tag {self.tag:#04x} where {tag:#04x} is due")
        return self


def context(number: int) -> int:
    """The identifier octet of a constructed context-specific ``[number]``."""
    return 0xA0 | number


def read_one(data: bytes, *, ber: bool = False) -> Element:
    """The one element that ``data`` is.

    Raises:
        DerError: malformed, or something stands behind it.
    """
    element, end = _element(data, 0, 0, ber=ber)
    if end != len(data):
        raise DerError(f"{len(data) - end} bytes behind the end")
    return element


def read_all(data: bytes, *, ber: bool = False) -> list[Element]:
    elements: list[Element] = []
    offset = 0
    while offset < len(data):
        element, offset = _element(data, offset, 0, ber=ber)
        if len(elements) == MAX_ELEMENTS:
            raise DerError(f"more than {MAX_ELEMENTS} elements")
        elements.append(element)
    return elements


def _element(data: bytes, offset: int, depth: int, *, ber: bool) -> tuple[Element, int]:
    if depth > MAX_DEPTH:
        raise DerError(f"nested deeper than {MAX_DEPTH}")
    if offset + 2 > len(data):
        raise DerError("cut off")
    tag, first = data[offset], data[offset + 1]
    if tag & _HIGH_TAG == _HIGH_TAG:
        raise DerError("tag number above 30")
    start = offset + 2
    if first == _INDEFINITE:
        return _indefinite(data, offset, depth, ber=ber)
    if first < _INDEFINITE:
        length = first
    else:
        start += first & 0x7F
        octets = data[offset + 2 : start]
        length = int.from_bytes(octets, "big")
        if len(octets) > 4 or len(octets) < first & 0x7F:
            raise DerError("length of more than 4 octets, or cut off")
        if not ber and (octets[0] == 0 or length < 0x80):
            raise DerError("length not in the shortest form")
    end = start + length
    if end > len(data):
        raise DerError("cut off")
    return Element(tag, data[start:end], data[offset:end]), end


def _indefinite(data: bytes, offset: int, depth: int, *, ber: bool) -> tuple[Element, int]:
    tag = data[offset]
    if not ber or not tag & _CONSTRUCTED:
        raise DerError("indefinite length")
    start = inner = offset + 2
    while data[inner : inner + 2] != _END_OF_CONTENTS:
        _, inner = _element(data, inner, depth + 1, ber=True)
    end = inner + 2
    return Element(tag, data[start:inner], data[offset:end]), end


def dotted(element: Element) -> str:
    """The OBJECT IDENTIFIER as people write it.

    Raises:
        DerError: another element, or an arc that is cut off or beyond all measure.
    """
    arcs, value = [], 0
    for octet in element.expect(OID).content:
        value = value << 7 | octet & 0x7F
        if value >> 128:
            raise DerError("an arc of more than 128 bits")
        if not octet & 0x80:
            arcs.append(value)
            value = 0
    if not arcs or element.content[-1] & 0x80:
        raise DerError("an object identifier that is cut off")
    top = min(arcs[0] // 40, 2)
    return ".".join(str(arc) for arc in (top, arcs[0] - 40 * top, *arcs[1:]))


def encode(tag: int, *contents: bytes) -> bytes:
    """One element around ``contents``, definite and shortest length."""
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        length = bytes([size])
    else:
        octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
        length = bytes([0x80 | len(octets)]) + octets
    return bytes([tag]) + length + content
