"""What every part of the operator API works with."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from flask import Flask, Response, request

from fioagent.factory.fleet import registry
from fioagent.factory.pki.forms import Paths
from fioagent.factory.servers.answers import message
from fioagent.factory.servers.gateway import Clock
from fioagent.factory.servers.traffic import Traffic
from fioagent.factory.store import Store, factory_name

DeviceHandler = Callable[..., Response]


@dataclass(frozen=True, slots=True)
class Office:
    """``gateway`` gives the address that devices are told."""

    paths: Paths
    store: Store
    clock: Clock
    gateway: Callable[[], str]
    traffic: Mapping[str, Traffic] = field(default_factory=dict)  # by server, while it serves

    def of_device(self, app: Flask, method: str, path: str, handler: DeviceHandler) -> None:
        """A route with ``<device>``: one transaction, 404 for a device that is not there.

        The device is named as fioctl does it: by its name, or by its uuid, which ``by-uuid=1``
        insists on. The handler gets the transaction, the device, the time, and what else the
        path names.
        """

        def view(device: str, **named: str) -> Response:
            with self.store.write() as db:
                now = self.clock()
                if request.args.get("factory", factory_name(db)) != factory_name(db):
                    return not_found()
                by_uuid = request.args.get("by-uuid") == "1"
                found = registry.named(db, device, now, by_uuid=by_uuid)
                return handler(db, found, now, **named) if found else not_found()

        app.add_url_rule(path, f"{method} {path}", view, methods=[method])

    def of_factory(
        self, app: Flask, method: str, path: str, handler: Callable[..., Response]
    ) -> None:
        """A route in one transaction; the handler gets it, the time, and what the path names."""

        def view(**named: str) -> Response:
            with self.store.write() as db:
                return handler(db, self.clock(), **named)

        app.add_url_rule(path, f"{method} {path}", view, methods=[method])

    def below_factory(
        self, app: Flask, method: str, path: str, handler: Callable[..., Response]
    ) -> None:
        """The same for ``path`` below /ota/factories/<factory>; 404 for another factory."""

        def in_ours(db: sqlite3.Connection, now: float, *, factory: str, **named: str) -> Response:
            return handler(db, now, **named) if factory == factory_name(db) else not_found()

        self.of_factory(app, method, f"/ota/factories/<factory>{path}", in_ours)


def not_found() -> Response:
    return message(404, "Not Found")
