"""Which TLS context a new connection to the gateway or the EST server gets.

One is made for each state of certificates and knobs, so that what an operator has changed holds
for the next connection. Tickets of the one before are worth nothing there: whose CA was revoked
cannot resume a session of better days.
"""

from __future__ import annotations

import sqlite3
import ssl
import tempfile
from pathlib import Path
from typing import Final

from fioagent.factory.pki import certs
from fioagent.factory.pki.certificates import certificate_pem
from fioagent.factory.pki.forms import Paths
from fioagent.factory.servers.tls import server_context
from fioagent.factory.store import Store, read_knobs

# Knob est_tls and the pair in cloud/ that it serves.
PROPS: Final = {"foreign-ca": "foreign-tls", "wrong-host": "wrong-host"}


class Contexts:
    """Of one server, whose certificate is called ``name``: tls-crt or est-tls-crt."""

    def __init__(self, store: Store, paths: Paths, name: str) -> None:
        self._store = store
        self._paths = paths
        self._name = name
        self._made: dict[tuple[str, ...], ssl.SSLContext] = {}
        self._version = ""

    def __call__(self) -> ssl.SSLContext:
        with self._store.read() as db:
            knobs, version = read_knobs(db), certs.version(db)
            prop = PROPS.get(knobs["est_tls"], "") if self._name == "est-tls-crt" else ""
            wanted = (prop, knobs["expired_clients"])
            if version != self._version:
                self._made.clear()
                self._version = version
            if wanted not in self._made:
                any_age = knobs["expired_clients"] == "accept"
                self._made[wanted] = self._make(db, prop, any_age=any_age)
            return self._made[wanted]

    def _make(self, db: sqlite3.Connection, prop: str, *, any_age: bool) -> ssl.SSLContext:
        """Without a certificate where there is none: every handshake fails, and the log says so."""
        cas = "".join(ca.pem for ca in certs.trusted_cas(db))
        if prop:
            pair = self._paths.cloud / f"{prop}.pem", self._paths.cloud / f"{prop}.key"
            return server_context(pair if pair[0].is_file() else None, cas, any_age=any_age)
        found = certs.server_pair(db, self._paths, self._name)
        if found is None:
            return server_context(None, cas, any_age=any_age)
        with tempfile.NamedTemporaryFile() as file:  # the ssl module takes it from nowhere else
            file.write(certificate_pem(found[0]))
            file.flush()
            return server_context((Path(file.name), found[1]), cas, any_age=any_age)
