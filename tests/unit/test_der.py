"""DER as it has to be, BER only where it is asked for, and nothing but DerError for the rest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fioagent import der

from . import made

_NESTED = made.tlv(0x30, made.tlv(0x02, b"\x05"), made.tlv(0x30, made.tlv(0x04, b"x" * 200)))
_LOW_TAGS = st.integers(0, 255).filter(lambda tag: tag & 0x1F != 0x1F)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65535, 65536])
def test_what_is_encoded_reads_back(size: int) -> None:
    """Every form of the length survives the round trip."""
    content = b"\xa5" * size

    element = der.read_one(der.encode(der.OCTET_STRING, content))

    assert (der.OCTET_STRING, content) == (element.tag, element.content)
    assert der.encode(der.OCTET_STRING, content) == element.encoded


@given(tag=_LOW_TAGS, contents=st.lists(st.binary(max_size=90), max_size=4))
def test_encoding_is_that_of_another_encoder(tag: int, contents: list[bytes]) -> None:
    """Tag, shortest length, contents in a row: no other form leaves this module."""
    assert made.tlv(tag, *contents) == der.encode(tag, *contents)


@pytest.mark.parametrize(
    "long_form",
    [
        b"\x04\x81\x01x",
        b"\x04\x81\x7f" + b"x" * 127,
        b"\x04\x82\x00\x80" + b"x" * 128,
        b"\x04\x84\x00\x00\x01\x00" + b"x" * 256,
    ],
    ids=["one octet", "just below", "leading zero", "four octets"],
)
def test_der_has_one_length_only(long_form: bytes) -> None:
    """A length that could be shorter is no DER; BER takes it."""
    with pytest.raises(der.DerError, match="shortest form"):
        der.read_one(long_form)

    assert set(b"x") == set(der.read_one(long_form, ber=True).content)


@pytest.mark.parametrize("ber", [False, True])
def test_lengths_have_at_most_four_octets(ber: bool) -> None:
    """Nothing that fits in memory needs five, and nothing is read for it."""
    with pytest.raises(der.DerError, match="more than 4 octets"):
        der.read_one(b"\x04\x85\x00\x00\x00\x00\x01x", ber=ber)


def test_indefinite_length_is_read_as_ber() -> None:
    """BouncyCastle's form: content without the end mark, the whole with it."""
    inner = made.tlv(0x02, b"\x05")
    encoded = b"\x30\x80" + inner + b"\x00\x00"

    element = der.read_one(encoded, ber=True)

    assert inner == element.content
    assert encoded == element.encoded
    assert [inner] == [child.encoded for child in element.children(ber=True)]


def test_indefinite_length_is_no_der() -> None:
    with pytest.raises(der.DerError, match="indefinite"):
        der.read_one(b"\x30\x80\x00\x00")


def test_indefinite_length_inside_is_no_der_either() -> None:
    """Asking for BER outside does not let it in where it was not asked for."""
    element = der.read_one(made.tlv(0x30, b"\x30\x80\x00\x00"), ber=True)

    with pytest.raises(der.DerError, match="indefinite"):
        element.children()


def test_a_primitive_has_a_length() -> None:
    """X.690 section 8.1.3.2: indefinite is for constructed encodings alone."""
    with pytest.raises(der.DerError, match="indefinite"):
        der.read_one(b"\x04\x80\x00\x00", ber=True)


def test_sixteen_levels_are_read() -> None:
    levels = der.MAX_DEPTH
    encoded = b"\x30\x80" * levels + b"\x00\x00" * levels

    assert encoded == der.read_one(encoded, ber=True).encoded


@pytest.mark.parametrize("levels", [18, 1000, 100_000])
@pytest.mark.parametrize("closed", [False, True])
def test_deep_nesting_is_refused(levels: int, closed: bool) -> None:
    """A hostile message costs no stack."""
    encoded = b"\x30\x80" * levels + b"\x00\x00" * levels * closed

    with pytest.raises(der.DerError, match="nested deeper than 16"):
        der.read_one(encoded, ber=True)


@pytest.mark.parametrize("ber", [False, True])
@pytest.mark.parametrize("cut", range(len(_NESTED)))
def test_every_cut_is_noticed(cut: int, ber: bool) -> None:
    """No prefix of an element is an element."""
    with pytest.raises(der.DerError, match="cut off"):
        der.read_one(_NESTED[:cut], ber=ber)


@pytest.mark.parametrize("cut", range(10))
def test_every_cut_of_an_indefinite_element_is_noticed(cut: int) -> None:
    encoded = b"\x30\x80\x30\x80\x02\x01\x05\x00\x00\x00\x00"

    with pytest.raises(der.DerError, match="cut off"):
        der.read_one(encoded[:cut], ber=True)


def test_nothing_may_stand_behind() -> None:
    with pytest.raises(der.DerError, match="3 bytes behind the end"):
        der.read_one(_NESTED + b"abc")


def test_a_row_of_elements_is_read_in_order() -> None:
    first, second = made.tlv(0x02, b"\x01"), made.tlv(0x05)

    assert [first, second] == [element.encoded for element in der.read_all(first + second)]
    assert [] == der.read_all(b"")


def test_a_primitive_holds_no_elements() -> None:
    with pytest.raises(der.DerError, match="holds no elements"):
        der.read_one(made.tlv(0x04, made.tlv(0x05))).children()


def test_another_tag_than_due_is_refused() -> None:
    element = der.read_one(made.tlv(der.OID))

    assert element is element.expect(der.OID)
    with pytest.raises(der.DerError, match="tag 0x06 where 0x30 is due"):
        element.expect(der.SEQUENCE)


def test_tags_of_several_octets_are_refused() -> None:
    """X.509 and CMS use none."""
    with pytest.raises(der.DerError, match="above 30"):
        der.read_one(b"\x3f\x81\x01\x00")


@given(
    data=st.binary(max_size=60) | st.lists(st.sampled_from(b"\x30\x80\x00\x02\x01\xa0")).map(bytes),
    ber=st.booleans(),
)
def test_arbitrary_bytes_raise_nothing_else(data: bytes, ber: bool) -> None:
    """Whatever a peer sends is elements that add up to the input, or a DerError."""
    try:
        elements = der.read_all(data, ber=ber)
    except der.DerError:
        return

    assert data == b"".join(element.encoded for element in elements)
