"""Every setting there is, with what it means. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fioagent.readings import (
    choice,
    duration,
    exchange_limit,
    flag,
    flag_text,
    handler_limit,
    https,
    interval,
    issuances,
    label,
    names_text,
    object_ids,
    paths_text,
    proxy_url,
    share,
    some_text,
    text,
    texts,
    uses,
)


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a setting.

    Attributes:
        read: from TOML; TypeError or ValueError says what is wrong with it.
        unit: of the value, in words.
        meaning: one line.
        variable: fioconfig's name of it; None where it has none.
        read_text: from that variable.
    """

    read: Callable[[Any], Any]
    unit: str
    meaning: str
    variable: str | None = None
    read_text: Callable[[str], Any] | None = None


KEYS: Final[Mapping[str, Key]] = {
    "config.secrets_directory": Key(
        some_text, "path", "where configuration is extracted to", "SECRETS_DIR", some_text
    ),
    "config.unsafe_handlers": Key(
        flag,
        "true or false",
        "run handlers from anywhere, not from /usr/share/fioconfig/handlers alone",
        "UNSAFE_CALLBACKS",
        flag_text,
    ),
    "config.url": Key(
        https, "URL", "of the configuration, instead of tls.server/config", "CONFIG_URL", https
    ),
    "daemon.interval": Key(
        interval, "duration", "from check-in to check-in", "DAEMON_INTERVAL", interval
    ),
    "est.server": Key(text, "URL", "EST server, https://HOST:PORT/.well-known/est"),
    "est.label": Key(label, "text", "label behind /.well-known/est of an address that has none"),
    "est.trust_file": Key(some_text, "path", "PEM certificates that the EST server is trusted by"),
    "est.timeout": Key(exchange_limit, "duration, 5s to 10m", "for each exchange, from end to end"),
    "est.csrattrs": Key(flag, "true or false", "ask what the request has to have, and heed it"),
    "est.cacerts": Key(flag, "true or false", "ask for the CA's certificates, to check by"),
    "est.proof_of_possession": Key(
        choice("asked", "never"),
        "asked, never",
        "bind the request to its TLS connection where csrattrs asks for it",
    ),
    "est.send_chain": Key(
        flag, "true or false", "send the issuers that are in the trust file along with ours"
    ),
    "est.strict_x509": Key(
        flag, "true or false", "check the server's chain by RFC 5280 to the letter"
    ),
    "est.accept_common_name": Key(
        flag, "true or false", "take a server certificate that has its name in the CN alone"
    ),
    "est.allow_san_loss": Key(
        flag, "true or false", "take a certificate without the SubjectAltName of the old one"
    ),
    "est.require_chain": Key(
        flag, "true or false", "refuse a certificate that no issuer at hand ties to a root"
    ),
    "est.minimum_life": Key(duration, "duration", "that a new certificate has to have left"),
    "est.clock_skew": Key(
        duration, "duration", "that the server's clock may be ahead without a word"
    ),
    "rotation.due_at": Key(
        share, "share, 0 to 1", "of the certificate's life, after which it is due"
    ),
    "rotation.due_before_expiry": Key(
        duration, "duration", "due so long before the end instead of by rotation.due_at"
    ),
    "rotation.spread": Key(
        duration, "duration", "over which devices with equal certificates spread"
    ),
    "rotation.window": Key(
        duration, "duration", "over which a fleet spreads after a trigger without WINDOW"
    ),
    "rotation.issuances_per_day": Key(
        issuances, "count, 1 to 9", "certificates that may be requested within a day"
    ),
    "rotation.trust_check": Key(
        choice("gateway", "est", "none"),
        "gateway, est, none",
        "who has to take the new pair in a handshake before the gateway is told of it",
    ),
    "token.key_ids": Key(
        object_ids, "ids, 01 to 09", "object ids that keys in a token have in turn"
    ),
    "token.certificate_ids": Key(
        object_ids, "ids, 01 to 09", "object ids that certificates in a token have in turn"
    ),
    "proxy.url": Key(
        proxy_url,
        "URL",
        "HTTP proxy that tunnels by CONNECT, http://[USER:PASSWORD@]HOST:PORT",
        "HTTPS_PROXY",
        text,
    ),
    "proxy.use_for": Key(uses, "est, gateway", "which servers are reached through it"),
    "proxy.except": Key(
        texts, "names", "hosts and networks that are reached without it", "NO_PROXY", names_text
    ),
    "handlers.directory": Key(some_text, "path", "where the programs of OnChanged have to lie"),
    "handlers.run": Key(
        choice("auto", "direct", "systemd-run"),
        "auto, direct, systemd-run",
        "as children, as units of their own, or auto: the latter from inside a sandbox",
    ),
    "handlers.timeout": Key(handler_limit, "duration, 1s to 1h", "that each handler may take"),
    "actions.directory": Key(some_text, "path", "remote actions that this image knows"),
    "services.manager": Key(
        choice("auto", "systemd", "none"), "auto, systemd, none", "who restarts services"
    ),
    "services.restart": Key(texts, "units", "that hold the credential in memory"),
    "sota.paths": Key(
        texts, "paths", "where sota.toml is searched, in order", "SOTA_DIR", paths_text
    ),
}
