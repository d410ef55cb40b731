"""The cloud's API of certificates without a server between, and what a new cloud begins with."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from typing import Any

from fioagent.factory.errors import FactoryError
from fioagent.factory.pki import certs, certs_change, props, retirement
from fioagent.factory.pki.directory import PkiDirectory
from fioagent.factory.pki.forms import Paths, write_new
from fioagent.factory.pki.root_key import FileKey
from fioagent.factory.store import Store, factory_name


def open_cloud(store: Store, paths: Paths) -> None:
    """The shared PKI, a token for operators, and certificates that must not be accepted."""
    paths.cloud.mkdir(mode=0o700)
    with store.write() as db:
        certs.create_shared(db, paths)
    write_new(paths.api_token, f"{secrets.token_urlsafe(30)}\n".encode(), 0o600)
    props.create_foreign(paths)


def take_ownership(desk: FactoryDesk, paths: Paths) -> None:
    """As an operator does with ``keys ca create`` and ``keys est authorize``, in ``pki/``."""
    mine = PkiDirectory(paths.pki, FileKey(), say=lambda _: None)
    mine.create(desk)
    desk.authorize_est(mine)


class FactoryDesk:
    """See ``directory.Desk``. One transaction a request, as over HTTP."""

    def __init__(self, store: Store, paths: Paths) -> None:
        self._store = store
        self._paths = paths

    @property
    def factory(self) -> str:
        with self._store.read() as db:
            return factory_name(db)

    def user_id(self) -> str:
        with self._store.read() as db:
            return certs.user_id(db)

    def certificates(self) -> dict[str, Any]:
        """As GET shows them. FactoryError: nobody has taken ownership."""
        with self._store.read() as db:
            shown = certs_change.show(db)
        if shown is None:
            raise FactoryError(
                f"cannot show the certificates of {self.factory}: its PKI is not configured, it"
                " has the shared one",
                f"hint: fioagent-factory keys ca create {self._paths.directory} PKI_DIR",
            )
        return shown

    def request(self, *wanted: str, first: bool = False) -> dict[str, str]:
        """Requests (PEM) by their names, like tls-csr."""
        asked = {"first-time-init": first, **dict.fromkeys(wanted, True)}
        with self._store.write() as db:
            return certs_change.new_requests(db, self._paths, asked)

    def change(self, **pems: str) -> None:
        """By the API's names with underscores, like ``tls_crt``."""
        given = {name.replace("_", "-"): pem for name, pem in pems.items()}
        with self._store.write() as db:
            certs_change.change(db, self._paths, given)

    def revoke(self, serials: Sequence[str], listed: str, *, force: bool) -> None:
        """Device CAs, by a list of the root's. FactoryError: devices depend on them."""
        with self._store.write() as db:
            retirement.check_revocable(serials, certs.dependants(db), force=force)
            certs_change.change(db, self._paths, {"ca-revoke-crl": listed})

    def authorize_est(self, mine: PkiDirectory) -> str:
        """The EST server's certificate (PEM); and that for a wrong host, while the root is here."""
        pem = mine.authorize_est(self)
        props.create_wrong_host(self._paths, mine.root(), self.factory)
        return pem

    def dependants(self) -> Counter[str]:
        """How many devices came last with a certificate of each device CA, by its serial."""
        with self._store.read() as db:
            return certs.dependants(db)

    def device_cas(self) -> list[certs.DeviceCa]:
        """With their states, the revoked ones too."""
        with self._store.read() as db:
            return certs.device_cas(db)
