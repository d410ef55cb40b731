"""The address of an EST server, checked before anything is sent there. Pure."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urljoin, urlsplit, urlunsplit

from fioagent import forms
from fioagent.errors import ConfigError

# RFC 7030 section 3.2.2, RFC 8295 section 2, RFC 8995 section 8.3.1, RFC 9148 section 5.
_OPERATIONS: Final = frozenset(
    (
        *("cacerts", "simpleenroll", "simplereenroll", "fullcmc", "serverkeygen", "csrattrs"),
        *("pal", "eecerts", "crls", "symmetrickeys", "firmware", "tamp"),
        *("requestvoucher", "voucher_status", "requestauditlog", "enrollstatus"),
        *("crts", "sen", "sren", "skg", "skc", "att"),
    )
)
_HIDDEN: Final = re.compile("%(?:2f|5c|[01][0-9a-f]|7f)", re.IGNORECASE)
_LABEL: Final = re.compile(r"(?!:)[A-Za-z0-9\-._~:@!$&'()*+,;=]{1,128}(?<!:)")
ROOT: Final = "/.well-known/est"


def base_url(value: str) -> str:
    """``value`` checked and without a trailing slash: ``https://host:port/.well-known/est[/label]``.

    fioconfig's ESTSERVER has this form; the operation is appended to it.

    Raises:
        ConfigError: not https, or anything in it that a server could read in two ways.
    """
    wrong = f"cannot use the EST server {value!r}"
    hint = "write it as https://HOST:PORT/.well-known/est"
    if any(c.isspace() or not c.isprintable() or c == "\\" for c in value):
        raise ConfigError(f"{wrong}: it has white space or control characters in it", hint=hint)
    if not value.isascii():
        raise ConfigError(f"{wrong}: it has letters beyond ASCII in it", hint=hint)
    try:
        parts = urlsplit(value)
        has_host = forms.is_host(parts.hostname or "") and parts.port != 0
    except ValueError as error:
        raise ConfigError(f"{wrong}: {error}", hint=hint) from error
    if parts.scheme != "https":
        raise ConfigError(f"{wrong}: only https is safe", hint=hint)
    if not has_host or parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(f"{wrong}: it needs a host, and no user, query or fragment", hint=hint)
    path = parts.path.rstrip("/")
    segments = path.lower().replace("%2e", ".").split("/")[1:]
    if _HIDDEN.search(path):
        raise ConfigError(f"{wrong}: it has an encoded slash or control character", hint=hint)
    if ".." in segments or "." in segments or "" in segments:
        raise ConfigError(f"{wrong}: its path has an empty, '.' or '..' segment", hint=hint)
    if segments and segments[-1] in _OPERATIONS:
        raise ConfigError(f"{wrong}: leave the operation /{segments[-1]} away", hint=hint)
    return f"https://{parts.netloc}{path or ROOT}"


def label(value: str) -> str:
    """``value`` as one more segment of the address, RFC 7030 section 3.2.2.

    A server with more segments than one (Trustpoint) is named by its whole address.

    Raises:
        ValueError: it is no segment, or it is the name of an operation.
    """
    if value.lower() in _OPERATIONS:
        raise ValueError("it is the name of an operation of EST")
    if not _LABEL.fullmatch(value) or value in (".", ".."):
        raise ValueError("it is no single segment of an address, of 128 characters at most")
    return value


def labelled(base: str, value: str | None) -> str:
    """``base``, a result of ``base_url``, with the label behind it; unless it has one."""
    return f"{base}/{value}" if value and urlsplit(base).path == ROOT else base


def redirected(base: str, url: str, location: str) -> str:
    """Where a redirect from ``url`` leads; ``base`` is a result of ``base_url``.

    RFC 7030 section 3.2.1: to the same origin it is followed without asking a person.
    Never out of the part of the server that is for EST.

    Raises:
        ValueError: to elsewhere; it says what is wrong.
    """
    if not location:
        raise ValueError("it does not say where")
    target = urljoin(url, location)
    parts, ours = urlsplit(target), urlsplit(base)
    if (parts.scheme, parts.hostname, parts.port or 443) != (
        "https",
        ours.hostname,
        ours.port or 443,
    ):
        raise ValueError("that is another server")
    segments = parts.path.lower().replace("%2e", ".").split("/")[1:]
    odd = parts.fragment or "@" in parts.netloc or _HIDDEN.search(parts.path)
    if odd or not {"", ".", ".."}.isdisjoint(segments):
        raise ValueError("that is no plain address")
    if not parts.path.startswith((f"{ROOT}/", f"{ours.path}/")):
        raise ValueError("that leads out of EST")
    # In the words of the base: a host may be written in capitals, a port be left out.
    return urlunsplit((ours.scheme, ours.netloc, parts.path, parts.query, ""))
