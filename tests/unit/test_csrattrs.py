"""What an EST server asks of a request: heeded where it makes sense, ignored where it does not."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fioagent.csrattrs import MAX_ATTRIBUTES, MAX_COPIED, CsrAttrsError, Demands, parse

from . import made

_CHALLENGE = made.oid("2a864886f70d010907")
_MAC_ADDRESS = made.oid("2b060101010116")
_EC, _RSA = "2a8648ce3d0201", "2a864886f70d010101"
_P192, _P256, _P521 = "2a8648ce3d030101", "2a8648ce3d030107", "2b81040023"
_BRAINPOOL = "2b2403030208010107"
_SHA256, _SHA512, _SHA1 = "2a8648ce3d040302", "2a8648ce3d040304", "2a8648ce3d0401"
_SAN = made.tlv(0x30, made.oid("551d11"), made.tlv(4, made.tlv(0x30, made.tlv(0x82, b"a"))))
_OTHER_SAN = made.tlv(0x30, made.oid("551d11"), made.tlv(4, made.tlv(0x30, made.tlv(0x82, b"b"))))
_POLICY = made.tlv(0x30, made.oid("551d20"), made.tlv(4, b"\x30\x00"))
_CA = made.tlv(0x30, made.oid("551d13"), made.tlv(4, b"\x30\x03\x01\x01\xff"))
_KEY_USAGE = made.tlv(0x30, made.oid("551d0f"), made.tlv(4, b"\x03\x02\x01\x06"))


def _attribute(kind: str, *values: bytes) -> bytes:
    return made.tlv(0x30, made.oid(kind), made.tlv(0x31, *values))


def _request(*extensions: bytes) -> bytes:
    return _attribute("2a864886f70d01090e", made.tlv(0x30, *extensions))


def _parsed(*attributes: bytes, san: bytes | None = None) -> Demands:
    return parse(made.tlv(0x30, *attributes), san)


def test_an_empty_sequence_asks_for_nothing() -> None:
    """RFC 8951 section 4: as 204 and 404 do."""
    assert Demands() == _parsed()


def test_the_example_of_rfc_7030_is_no_obstacle() -> None:
    """Section 4.5.2: it has an OID where an extension is due (RFC 9908 section 5.2)."""
    example = bytes.fromhex(
        "3041 0609 2a864886f70d010907 3012 0607 2a8648ce3d0201 3107 0605 2b81040022"
        "3016 0609 2a864886f70d01090e 3109 0607 2b060101010116 0608 2a8648ce3d040303"
    )

    assert Demands(linked=True, curve="secp384r1", digest="sha384") == parse(example, None)


def test_what_libest_lists_by_default_is_no_demand() -> None:
    """Bare OIDs of an attribute, a curve and a hash."""
    bare = [_MAC_ADDRESS, made.oid("2a864886f70d010901"), made.oid("2b81040022")]

    assert Demands() == _parsed(*bare, made.oid("608648016503040202"))


def test_everything_at_once() -> None:
    wanted = _parsed(
        _attribute(_EC, made.oid(_P521)), made.oid(_SHA512), _CHALLENGE, _request(_POLICY)
    )

    assert Demands(True, "secp521r1", "sha512", (_POLICY,)) == wanted


@pytest.mark.parametrize(
    ("attributes", "note"),
    [
        ([_attribute(_EC, made.oid(_P192))], "below P-256"),
        ([_attribute(_EC, made.oid(_P256)), _attribute(_EC, made.oid(_P521))], "several kinds"),
        ([_attribute(_EC, made.oid(_P256)), _attribute(_RSA)], "several kinds"),
        ([_attribute(_EC, made.oid(_P256), made.oid(_P521))], "several kinds"),
        ([_request(_OTHER_SAN)], "another SubjectAltName"),
        ([_request(_POLICY), _request(_POLICY)], "several extension requests"),
        ([_request(made.tlv(0x30, made.oid("551d20")))], "malformed"),
        ([_request(made.tlv(0x30, made.oid("551d20"), made.tlv(4, b"x" * MAX_COPIED)))], "2048"),
        ([_attribute("2a864886f70d010910023d", b"\x30\x00")], "RFC 9908 template"),
    ],
)
def test_what_is_ignored_is_worth_a_word(attributes: list[bytes], note: str) -> None:
    """It never weakens the key, renames the device, or makes the request too long."""
    wanted = _parsed(*attributes, san=_SAN)

    assert (None, "sha256", (), None) == (
        wanted.curve,
        wanted.digest,
        wanted.extensions,
        wanted.problem,
    )
    assert [note in each for each in wanted.notes] == [True]


@pytest.mark.parametrize(
    "attribute",
    [
        made.oid(_SHA1),
        made.oid(_SHA256),
        _attribute(_EC),
        _request(_SAN),
        _request(_CA, _KEY_USAGE),
        _request(made.tlv(0x30, made.oid("551d20"), made.tlv(4))),
        _attribute("2b06010401", b"\x05\x00"),
        made.tlv(0x04, b"x"),
    ],
    ids=["sha1", "sha256", "any curve", "own SAN", "a CA", "empty value", "unknown", "no choice"],
)
def test_what_changes_nothing_is_not_worth_one(attribute: bytes) -> None:
    assert Demands() == _parsed(attribute, san=_SAN)


@pytest.mark.parametrize(
    ("attribute", "problem"),
    [
        (_attribute(_RSA, made.tlv(2, b"\x08\x00")), "asks for an RSA key"),
        (_attribute(_EC, made.oid(_BRAINPOOL)), "curve 1.3.36.3.3.2.8.1.1.7, which is not known"),
    ],
)
def test_a_key_that_cannot_be_is_a_problem(attribute: bytes, problem: str) -> None:
    """Told before a key is made."""
    assert problem in str(_parsed(attribute).problem)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x04\x00",
        made.tlv(0x30, made.tlv(0x30)),
        made.tlv(0x30, made.tlv(0x30, made.oid(_EC))),
        made.tlv(0x30, made.tlv(0x30, made.oid(_EC), b"\x30\x00")),
        made.tlv(0x30, made.tlv(0x06)),
        made.tlv(0x30, made.tlv(0x06, b"\x80")),
        made.tlv(0x30, made.tlv(0x06, b"\xff" * 40 + b"\x01")),
        made.tlv(0x30) + b"\x00",
        made.tlv(0x30, *[_MAC_ADDRESS] * (MAX_ATTRIBUTES + 1)),
    ],
)
def test_anything_else_is_refused(message: bytes) -> None:
    with pytest.raises(CsrAttrsError, match="not CsrAttrs: "):
        parse(message, None)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_else(message: bytes) -> None:
    with contextlib.suppress(CsrAttrsError):
        parse(message, None)
