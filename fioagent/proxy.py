"""Which proxy leads to a peer, by the settings. Pure."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

_DEFAULT_PORT: Final = 3128  # where most proxies listen; curl takes 1080, which is SOCKS


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that is asked for a tunnel.

    Attributes:
        host: name or address.
        port: of it.
        authorization: value of Proxy-Authorization, a secret; None where none is given.
    """

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return f"{self.host}:{self.port}"


def parse(url: str) -> Proxy:
    """Of ``http://[USER:PASSWORD@]HOST[:PORT]``.

    Raises:
        ValueError: another form; quotes nothing of it, because there may be a password in it.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
    except ValueError:
        raise ValueError("it is not http://HOST:PORT") from None
    if parts.scheme != "http":
        raise ValueError("only a proxy at http://HOST:PORT is known, which tunnels by CONNECT")
    if not host or port == 0 or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("it is not http://HOST:PORT")
    if not host.isascii() or any(c.isspace() or not c.isprintable() for c in host):
        raise ValueError("it has a host that is none")
    authorization = None
    if user:
        pair = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
        authorization = f"Basic {pair}"
    return Proxy(host, port or _DEFAULT_PORT, authorization)


def shown(url: str) -> str:
    """``url`` without its password."""
    scheme, separator, rest = url.rpartition("://")
    before, at, place = rest.rpartition("@")
    return f"{scheme}{separator}{before.partition(':')[0]}:***@{place}" if at and before else url


def is_excepted(host: str, port: int, exceptions: Sequence[str]) -> bool:
    """Whether one of ``exceptions`` means ``host``.

    As Go and curl read NO_PROXY: ``*``, an address, a network (``10.0.0.0/8``), a name
    with all names below it (``example.com``), only those below it (``.example.com``),
    each with ``:PORT`` where it is for that port alone.
    """
    return any(_means(each.strip().lower(), host.lower().rstrip("."), port) for each in exceptions)


def _means(exception: str, host: str, port: int) -> bool:
    name, separator, number = exception.rpartition(":")
    if separator and number.isdecimal() and ("]" in name or ":" not in name):
        return int(number[:6]) == port and _means(name.strip("[]"), host, port)
    exception = exception.strip("[]")
    if exception == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(exception, strict=False)
    except ValueError:  # names, or one of the two is one
        pass
    name = exception.removeprefix("*").lstrip(".")
    below = bool(name) and host.endswith(f".{name}")
    return below or (host == name and not exception.startswith((".", "*")))
