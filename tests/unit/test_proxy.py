"""Which proxy, and for whom not; and a password that is never shown."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fioagent.proxy import is_excepted, parse, shown


@pytest.mark.parametrize(
    ("url", "name", "authorization"),
    [
        ("http://proxy.example:8080", "proxy.example:8080", None),
        ("http://proxy.example:8080/", "proxy.example:8080", None),
        ("proxy.example:8080", "proxy.example:8080", None),
        ("http://proxy.example", "proxy.example:3128", None),
        ("http://[2001:db8::1]:8080", "2001:db8::1:8080", None),
        ("http://bob:s%40crt@proxy:1", "proxy:1", "Basic Ym9iOnNAY3J0"),
        ("http://bob@proxy:1", "proxy:1", "Basic Ym9iOg=="),
    ],
)
def test_a_proxy_is_read(url: str, name: str, authorization: str | None) -> None:
    found = parse(url)

    assert (name, authorization) == (found.name, found.authorization)
    assert "Basic" not in repr(found)


@pytest.mark.parametrize(
    "url",
    [
        *("https://proxy:1", "socks5://proxy:1", "http://", "http://proxy:0", "http://proxy:x"),
        *("http://proxy:1/path", "http://proxy:1?x", "http://[::1", "http://pro xy:1"),
        "http://bob:secret@:1",
    ],
)
def test_anything_else_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"http://HOST:PORT|has a host that is none") as caught:
        parse(url)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://bob:secret@proxy:1", "http://bob:***@proxy:1"),
        ("bob:secret@proxy:1", "bob:***@proxy:1"),
        ("http://bob:se@cret@proxy:1", "http://bob:***@proxy:1"),
        ("http://proxy:1", "http://proxy:1"),
    ],
)
def test_a_password_is_not_shown(url: str, expected: str) -> None:
    assert expected == shown(url)


@pytest.mark.parametrize(
    ("exception", "host", "excepted"),
    [
        ("*", "any.example", True),
        ("example.com", "example.com", True),
        ("example.com", "est.EXAMPLE.com", True),
        ("example.com", "badexample.com", False),
        (".example.com", "example.com", False),
        (".example.com", "est.example.com", True),
        ("*.example.com", "est.example.com", True),
        ("est.example.com:8443", "est.example.com", True),
        ("est.example.com:9443", "est.example.com", False),
        ("10.0.0.0/8", "10.2.3.4", True),
        ("10.0.0.0/8", "11.2.3.4", False),
        ("10.2.3.4", "10.2.3.4", True),
        ("2001:db8::/32", "2001:db8::1", True),
        ("[2001:db8::1]:8443", "2001:db8::1", True),
        ("2001:db8::1", "2001:db8::1", True),
        ("", "example.com", False),
        (".", "example.com", False),
    ],
)
def test_who_is_reached_without_it(exception: str, host: str, excepted: bool) -> None:
    """As Go and curl read NO_PROXY."""
    assert excepted == is_excepted(host, 8443, ["nobody.example", exception])


@given(st.text(max_size=30), st.text(max_size=30))
def test_arbitrary_text_raises_nothing_else(url: str, host: str) -> None:
    assert is_excepted(host, 443, [url]) in (True, False)
    with contextlib.suppress(ValueError):
        assert parse(url).port
