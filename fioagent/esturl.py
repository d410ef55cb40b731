"""The address of an EST server, checked before anything is sent there. Pure."""

from __future__ import annotations

from urllib.parse import urlsplit

from fioagent.errors import ConfigError

_OPERATIONS = frozenset(
    ("cacerts", "simpleenroll", "simplereenroll", "fullcmc", "serverkeygen", "csrattrs")
)


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
    try:
        parts = urlsplit(value)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise ConfigError(f"{wrong}: {error}", hint=hint) from error
    if parts.scheme != "https":
        raise ConfigError(f"{wrong}: only https is safe", hint=hint)
    if not has_host or parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(f"{wrong}: it needs a host, and no user, query or fragment", hint=hint)
    path = parts.path.rstrip("/")
    segments = path.lower().replace("%2e", ".").split("/")[1:]
    if "%2f" in path.lower() or "%5c" in path.lower():
        raise ConfigError(f"{wrong}: it has an encoded slash in it", hint=hint)
    if ".." in segments or "." in segments or "" in segments:
        raise ConfigError(f"{wrong}: its path has an empty, '.' or '..' segment", hint=hint)
    if segments and segments[-1] in _OPERATIONS:
        raise ConfigError(f"{wrong}: leave the operation /{segments[-1]} away", hint=hint)
    return f"https://{parts.netloc}{path or '/.well-known/est'}"
