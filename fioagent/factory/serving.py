"""The three servers of a factory together, and factory.json that tells where they are."""

from __future__ import annotations

import fcntl
import json
import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from flask import Flask

from fioagent.factory import api, est, gateway
from fioagent.factory.errors import FactoryError
from fioagent.factory.faults import Faults
from fioagent.factory.gateway import Clock
from fioagent.factory.office import Office
from fioagent.factory.pki import Paths
from fioagent.factory.push import delivering
from fioagent.factory.server import Address, FactoryServer, is_free, start, stop
from fioagent.factory.store import Store, read_knobs
from fioagent.factory.tls import server_context
from fioagent.factory.traffic import Traffic, open_log

LOOPBACK: Final = "127.0.0.1"
SERVERS: Final = ("gateway", "est", "api")

ContextChoice = Callable[[], ssl.SSLContext]


@dataclass(frozen=True, slots=True)
class Urls:
    gateway: str
    est: str
    api: str


@contextmanager
def serve(
    paths: Paths, store: Store, clock: Clock, listen: Mapping[str, Address]
) -> Iterator[tuple[Urls, dict[str, Traffic]]]:
    """All three listen inside the ``with``; see ``Factory.serving``."""
    with ExitStack() as stack:
        stack.enter_context(_served_once(paths.directory))
        stack.enter_context(store.kept_open())
        last = last_urls(paths)
        traffic = {
            name: Traffic(stack.enter_context(open_log(paths.log, name))) for name in SERVERS
        }
        servers: dict[str, FactoryServer] = {}
        stack.callback(lambda: stop([*servers.values()]))
        for name in SERVERS:
            app, context = _application(name, paths, store, traffic[name], clock)
            address = listen.get(name) or _last_address(getattr(last, name, ""))
            try:
                servers[name] = start(address, app, traffic[name], context, Faults(store, name))
            except OSError as error:
                raise FactoryError(
                    f"cannot serve the {name} at {address[0]} port {address[1]}: {error}",
                    "hint: port 0 picks a free one",
                ) from error
        bound = {name: server.bind_addr for name, server in servers.items()}
        urls = Urls(
            gateway=_url("https", bound["gateway"]),
            est=_url("https", bound["est"]) + est.BASE,
            api=_url("http", bound["api"]),
        )
        stack.enter_context(
            delivering(store, paths, Traffic(stack.enter_context(open_log(paths.log, "push"))))
        )
        _write_state(paths, urls)
        yield urls, traffic


def _application(
    name: str, paths: Paths, store: Store, traffic: Traffic, clock: Clock
) -> tuple[Flask, ContextChoice | None]:
    """The application, and how a new connection finds its TLS context; None for plain HTTP."""

    def contexts(certificate: Path, key: Path) -> dict[str, ssl.SSLContext]:
        """By the knob ``expired_clients``."""
        return {
            value: server_context(certificate, key, paths.device_cas(), any_age=value == "accept")
            for value in ("refuse", "accept")
        }

    def knobs() -> Mapping[str, str]:
        with store.read() as db:
            return read_knobs(db)

    if name == "gateway":
        tls = contexts(paths.pki / "tls-crt", paths.cloud / "tls.key")
        app = gateway.create_app(store, traffic, clock)
        return app, lambda: tls[knobs()["expired_clients"]]
    if name == "est":
        files = {"normal": "est-tls", "foreign-ca": "foreign-tls", "wrong-host": "wrong-host"}
        choices = {
            value: contexts(paths.cloud / f"{file}.pem", paths.cloud / f"{file}.key")
            for value, file in files.items()
        }

        def choose() -> ssl.SSLContext:
            turned = knobs()
            return choices[turned["est_tls"]][turned["expired_clients"]]

        return est.create_app(store, traffic, paths, clock), choose
    return api.create_app(Office(paths, store, clock), traffic), None


@contextmanager
def _served_once(directory: Path) -> Iterator[None]:
    """Two servers of one factory would tell devices different addresses."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FactoryError(
                f"cannot serve the factory in {directory}: it is being served already"
            ) from error
        yield
    finally:
        os.close(descriptor)


def last_urls(paths: Paths) -> Urls | None:
    """Where the servers are, or were when they last ran; None if they never did."""
    try:
        state: Any = json.loads(paths.state.read_text())
        return Urls(str(state["gateway"]), str(state["est"]), str(state["api"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _last_address(url: str) -> Address:
    """Devices have the URL in their sota.toml, so a restart should not move it."""
    address = (LOOPBACK, urlsplit(url).port or 0)
    return address if is_free(address) else (LOOPBACK, 0)


def _write_state(paths: Paths, urls: Urls) -> None:
    """factory.json: complete or not there, and never before the servers listen."""
    temporary = paths.state.with_suffix(".json.tmp")
    temporary.write_text(json.dumps({**asdict(urls), "pid": os.getpid()}, indent=2) + "\n")
    temporary.replace(paths.state)


def _url(scheme: str, address: Address) -> str:
    """Loopback is called localhost, the first name in the certificates that everybody has."""
    host, port = address
    if host in (LOOPBACK, "0.0.0.0"):  # noqa: S104  # compared, not bound
        host = LOOPBACK if scheme == "http" else "localhost"
    elif ":" in host:
        host = f"[{host}]"
    return f"{scheme}://{host}:{port}"
