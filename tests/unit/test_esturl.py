"""An EST server's address has one meaning, or it is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fioagent.errors import ConfigError
from fioagent.esturl import base_url


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("https://est.example:8443/.well-known/est", None),
        ("https://est.example:8443/.well-known/est/label", None),
        ("https://est.example/.well-known/est", None),
        ("https://[2001:db8::1]:8443/.well-known/est", None),
        ("https://10.0.2.2:8443/.well-known/est", None),
        ("https://est.example:8443/.well-known/est/", "https://est.example:8443/.well-known/est"),
        ("https://est.example:8443", "https://est.example:8443/.well-known/est"),
        ("https://est.example:8443/", "https://est.example:8443/.well-known/est"),
        ("HTTPS://est.example/.well-known/est", "https://est.example/.well-known/est"),
    ],
)
def test_an_address_is_taken(value: str, expected: str | None) -> None:
    """As fioctl writes it; without a trailing slash, and with the well-known path added."""
    assert (expected or value) == base_url(value)
    assert base_url(value) == base_url(base_url(value))


@pytest.mark.parametrize(
    "value",
    ["http://h/.well-known/est", "h:8443/.well-known/est", "//h/x", "", "ftp://h", "file:///etc/x"],
)
def test_only_https_is_safe(value: str) -> None:
    with pytest.raises(ConfigError, match="only https is safe") as caught:
        base_url(value)
    assert "https://HOST:PORT/.well-known/est" in str(caught.value.hint)


@pytest.mark.parametrize(
    "value",
    [
        "https://",
        "https:///.well-known/est",
        "https://:8443/.well-known/est",
        "https://est..example/.well-known/est",
        "https://.example/.well-known/est",
        f"https://{64 * 'h'}.example/.well-known/est",
        "https://user@h/.well-known/est",
        "https://user:pass@h/.well-known/est",
        "https://@h/.well-known/est",
        "https://h/.well-known/est?x=1",
        "https://h/.well-known/est#x",
        "https://h:0/.well-known/est",
        "https://h:65536/.well-known/est",
        "https://h:port/.well-known/est",
        "https://[::1/.well-known/est",
    ],
)
def test_a_host_is_needed_and_nothing_but_a_path_behind_it(value: str) -> None:
    with pytest.raises(ConfigError, match="cannot use the EST server"):
        base_url(value)


@pytest.mark.parametrize(
    "value",
    [
        "https://h/../est",
        "https://h/.well-known/./est",
        "https://h/.well-known//est",
        "https://h/.well-known/%2e%2e/est",
        "https://h/.well-known/.%2E/est",
        "https://h/.well-known/est/..",
        "https://h/.well-known/%2e%2e%2fest",
        "https://h/.well-known/est%2flabel",
        "https://h/.well-known/est%5c..",
        "https://h/.well-known\\..\\est",
        "https://h\\@evil.example/.well-known/est",
        "https://h\\evil.example/.well-known/est",
    ],
)
def test_a_path_that_two_servers_read_in_two_ways_is_refused(value: str) -> None:
    """Proxies normalise, servers may not: no dots, no empty segments, no hidden slashes."""
    with pytest.raises(ConfigError, match="cannot use the EST server"):
        base_url(value)


@pytest.mark.parametrize("character", [" ", "\t", "\n", "\r", "\x00", "\x7f", "\u2028", "\u200b"])
@pytest.mark.parametrize(
    "place", ["{}https://h/e", "https://h{}/e", "https://h/{}e", "https://h/e{}"]
)
def test_invisible_characters_are_refused(place: str, character: str) -> None:
    """A CR of a file written on Windows among them: it must not reach a request line."""
    with pytest.raises(ConfigError, match="white space or control characters"):
        base_url(place.format(character))


@pytest.mark.parametrize("operation", ["simplereenroll", "simpleenroll", "cacerts", "CACERTS"])
@pytest.mark.parametrize("end", ["", "/"])
def test_an_operation_is_not_part_of_the_base(operation: str, end: str) -> None:
    """Pasted from a command line of curl; the agent appends its own."""
    with pytest.raises(ConfigError, match=f"leave the operation /{operation.lower()} away"):
        base_url(f"https://h/.well-known/est/{operation}{end}")


def test_the_wrong_value_is_in_the_message() -> None:
    with pytest.raises(ConfigError, match=r"cannot use the EST server 'http://h\\n'"):
        base_url("http://h\n")


@given(st.text(max_size=30) | st.text(max_size=20).map("https://h".__add__))
def test_arbitrary_text_raises_nothing_else(value: str) -> None:
    try:
        found = base_url(value)
    except ConfigError:
        return

    assert found.startswith("https://")
    assert found == base_url(found)
