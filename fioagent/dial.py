"""A line to a peer: whichever of its addresses answers, or a proxy's tunnel. TCP alone, no TLS.

Addresses of both families are tried in turn, each for a short while as long as
another is left: RFC 8305 without its races. So a host with an IPv6 address that
leads nowhere costs seconds, not minutes.
"""

from __future__ import annotations

import errno
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, zip_longest
from typing import Any, Final

from fioagent import __version__, causes
from fioagent.errors import TemporaryError, one_line
from fioagent.proxy import Proxy

LOOKUP_TIMEOUT_S: Final = 15.0  # two name servers that are silent, and a third that answers
CONNECT_TIMEOUT_S: Final = 15.0  # in all
_ADDRESS_TIMEOUT_S: Final = 4.0  # per address, while another one is left
_TUNNEL_TIMEOUT_S: Final = 20.0  # a proxy looks the name up and connects before it answers
_MAX_ADDRESSES: Final = 8
_MAX_ANSWER: Final = 16 * 1024  # bytes; of a proxy's head
# What an address says that this device has no way to.
_NO_WAY: Final = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})([^\r\n]*)")
_HINT: Final = causes.PROXY_REFUSES.remedy

Address = tuple[socket.AddressFamily, tuple[Any, ...]]
LookUp = Callable[[str, int], Iterable[tuple[Any, ...]]]


def connect(host: str, port: int, proxy: Proxy | None = None) -> socket.socket:
    """A connected socket whose other end is ``host``, directly or through ``proxy``.

    Raises:
        OSError: not reached.
        TemporaryError: the proxy was not reached, or will not lead there.
    """
    if proxy is None:
        return _connect(host, port)
    try:
        line = _connect(proxy.host, proxy.port)
    except OSError as error:
        reason = "timed out" if isinstance(error, TimeoutError) else error.strerror or str(error)
        facts = {"proxy": proxy.name, "reason": f"{reason[:1].lower()}{reason[1:]}"}
        raise TemporaryError.of(causes.PROXY_NOT_REACHED, facts) from error
    try:
        _tunnel(line, proxy, host, port)
    except OSError as error:
        line.close()
        raise TemporaryError(
            f"cannot reach {host}:{port}: the proxy {proxy.name} does not answer", hint=_HINT
        ) from error
    except BaseException:
        line.close()
        raise
    return line


def _connect(host: str, port: int) -> socket.socket:
    return reached(resolved(host, port))


def _look_up(host: str, port: int) -> Iterable[tuple[Any, ...]]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def resolved(
    host: str, port: int, patience_s: float = LOOKUP_TIMEOUT_S, look_up: LookUp = _look_up
) -> list[Address]:
    """The addresses of ``host``, in the order in which they are tried.

    getaddrinfo has no time limit and cannot be stopped: it asks name servers that are silent,
    or a service on this machine, for as long as it likes. So it runs in a thread, which is
    left behind when its time is up and does not keep the process from ending.

    Raises:
        OSError: not found, or not in time.
    """
    found: list[Iterable[tuple[Any, ...]] | OSError] = []

    def ask() -> None:
        try:
            found.append(look_up(host, port))
        except UnicodeError:  # a part of the name is empty, or longer than 63 characters
            found.append(socket.gaierror(socket.EAI_NONAME, "that is no name of a host"))
        except OSError as error:
            found.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    try:
        asking.start()
    except RuntimeError as error:  # no memory for it, or too many are there
        raise OSError(errno.EAGAIN, str(error)) from error
    asking.join(patience_s)
    answer = found[0] if found else socket.gaierror(socket.EAI_AGAIN, "no name server answers")
    if isinstance(answer, OSError):
        raise answer
    return by_turns(answer)


def reached(addresses: Sequence[Address], patience_s: float = _ADDRESS_TIMEOUT_S) -> socket.socket:
    """A socket connected to the first of ``addresses`` that answers.

    ``patience_s``: with each, while another one is left. Raises OSError, the first that
    tells more than that there is no way.
    """
    deadline = time.monotonic() + CONNECT_TIMEOUT_S
    failure: OSError | None = None
    for number, (family, address) in enumerate(addresses, 1):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        line = socket.socket(family, socket.SOCK_STREAM)
        try:
            line.settimeout(left if number == len(addresses) else min(left, patience_s))
            line.connect(address)
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            line.close()
            if failure is None or failure.errno in _NO_WAY:
                failure = error
        else:
            return line
    raise failure or TimeoutError


def by_turns(found: Iterable[tuple[Any, ...]]) -> list[Address]:
    """``found`` of getaddrinfo, in its order, the families by turns (RFC 8305 section 4)."""
    known = list(dict.fromkeys((each[0], each[4]) for each in found))
    first = [each for each in known if each[0] == known[0][0]]
    others = [each for each in known if each[0] != known[0][0]]
    turns = chain.from_iterable(zip_longest(first, others))
    return [each for each in turns if each is not None][:_MAX_ADDRESSES]


def _tunnel(line: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """RFC 9110 section 9.3.6."""
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    head = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    head.append(f"User-Agent: fioagent/{__version__}")
    if proxy.authorization is not None:
        head.append(f"Proxy-Authorization: {proxy.authorization}")
    deadline = time.monotonic() + _TUNNEL_TIMEOUT_S
    line.settimeout(_TUNNEL_TIMEOUT_S)
    line.sendall("\r\n".join([*head, "", ""]).encode("ascii"))
    answer = b""
    while b"\r\n\r\n" not in answer:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        line.settimeout(left)
        received = line.recv(4096)
        answer += received
        if not received or len(answer) > _MAX_ANSWER:
            raise ConnectionResetError("no answer to CONNECT")
    status = _STATUS.match(answer)
    if status is None:
        raise TemporaryError(f"cannot reach {authority}: {proxy.name} is no HTTP proxy", hint=_HINT)
    code, reason = int(status.group(1)), one_line(status.group(2).decode("ascii", "replace"), 80)
    if not 200 <= code < 300:
        wants = "; it wants a user and a password in proxy.url" if code == 407 else ""
        facts = {"peer": authority, "proxy": proxy.name, "answer": f"{code} {reason}{wants}"}
        raise TemporaryError.of(causes.PROXY_REFUSES, facts)
