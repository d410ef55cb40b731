"""Good examples, damaged: bytes overwritten, left out, doubled, taken from another example."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hypothesis import strategies as st

# What readers of DER, JSON, TOML, INI, HTTP and dates have stumbled over.
TELLING: Final = (
    *(b"\x00", b"\xff", b"\x80", b"\x7f", b"\x30\x80", b"\xa0\x80", b"\x00\x00", b"\x1f\x81\x00"),
    *(b"\x84\x7f\xff\xff\xff", b"\x88\xff\xff\xff\xff\xff\xff\xff\xff", b"\x81\x00", b"\x30\x00"),
    *(b"{", b"}", b"[", b"]", b'"', b"'", b'"""', b"\\", b"\\ud800", b"\\u0000", b":", b",", b"="),
    *(
        b"[[",
        b".",
        b"#",
        b";",
        b"%(x)s",
        b"${x}",
        b"<",
        b"&",
        b"null",
        b"true",
        b"NaN",
        b"Infinity",
    ),
    *(b"-1", b"0", b"1e999", b"1e-999", b"9" * 400, b"0x10", b"1_000", b"-0", b"+1", b"1.5"),
    *(b"\n", b"\r", b"\r\n", b"\r\n\r\n", b"\t", b" ", b"\x0b", b"\x0c", b"\x1c", b"\x85"),
    *(
        "\u0663".encode(),
        "\u2028".encode(),
        "\ufeff".encode(),
        "\U0001f600".encode(),
        b"\xed\xa0\x80",
    ),
    *(
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ),
    *(b"GMT", b"+9999", b"9999-12-31", b"0001-01-01", b"../", b"https://", b"@", b"?"),
)
_FEW: Final = st.integers(1, 8)
_MANY: Final = st.sampled_from([2, 3, 40, 2000])
_PIECES: Final = st.one_of(st.binary(max_size=8), st.sampled_from(TELLING))


@st.composite
def damaged(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """One of ``seeds`` after up to six changes."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from("oidrscn")):
            case "o":
                piece = draw(_PIECES)
                data = data[:at] + piece + data[at + len(piece) :]
            case "i":
                data = data[:at] + draw(_PIECES) + data[at:]
            case "d":
                data = data[:at] + data[at + draw(_FEW) :]
            case "r":
                piece = data[at : at + draw(_FEW)]
                data = data[:at] + piece * draw(_MANY) + data[at:]
            case "s":
                other = draw(st.sampled_from(seeds))
                data = data[:at] + other[draw(st.integers(0, len(other))) :]
            case "c":
                data = data[:at]
            case _:
                step = draw(st.sampled_from([1, 128, 255]))
                data = (
                    data[:at] + bytes((b + step) % 256 for b in data[at : at + 1]) + data[at + 1 :]
                )
    return data


def of(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Damaged examples mostly; now and then bytes that have nothing to do with them."""
    one = damaged(seeds)
    # What stands first is what a finding is shrunk to, where it can be.
    return st.one_of(st.binary(max_size=300), one, one, one)
