"""What every part of the operator API works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flask import Flask, Response

from fioagent.factory import devices
from fioagent.factory.answers import message
from fioagent.factory.gateway import Clock
from fioagent.factory.pki import Paths
from fioagent.factory.store import Store

DeviceHandler = Callable[..., Response]


@dataclass(frozen=True, slots=True)
class Office:
    paths: Paths
    store: Store
    clock: Clock

    def of_device(self, app: Flask, method: str, path: str, handler: DeviceHandler) -> None:
        """A route with ``<uuid>``: one transaction, 404 for a device that is not there.

        The handler gets the transaction, the device, the time, and what else the path names.
        """

        def view(uuid: str, **named: str) -> Response:
            now = self.clock()
            with self.store.write() as db:
                device = devices.find(db, uuid, now)
                return handler(db, device, now, **named) if device else not_found()

        app.add_url_rule(path, f"{method} {path}", view, methods=[method])

    def of_factory(
        self, app: Flask, method: str, path: str, handler: Callable[..., Response]
    ) -> None:
        """A route in one transaction; the handler gets it, the time, and what the path names."""

        def view(**named: str) -> Response:
            with self.store.write() as db:
                return handler(db, self.clock(), **named)

        app.add_url_rule(path, f"{method} {path}", view, methods=[method])


def not_found() -> Response:
    return message(404, "Not Found")
