"""The three servers of a factory together, and factory.json that tells where they are."""

from __future__ import annotations

import fcntl
import json
import os
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from flask import Flask

from fioagent.factory.api import app as api
from fioagent.factory.api.office import Office
from fioagent.factory.errors import FactoryError, RefusedError
from fioagent.factory.pki.contexts import Contexts
from fioagent.factory.pki.forms import Paths
from fioagent.factory.queues.push import delivering
from fioagent.factory.servers import est, gateway, sign
from fioagent.factory.servers.faults import Faults
from fioagent.factory.servers.gateway import Clock
from fioagent.factory.servers.server import Address, FactoryServer, is_free, start, stop
from fioagent.factory.servers.traffic import Traffic, open_log
from fioagent.factory.store import Store
from fioagent.factory.urls import Urls, last_urls

LOOPBACK: Final = "127.0.0.1"
SERVERS: Final = ("gateway", "est", "api")
SIGN: Final = "sign"  # only where it is asked for: whoever reaches it gets a certificate
# A server that was killed or told to stop needs a moment until it has let go of everything.
FORMER_S: Final = 5.0
FORMER_POLL_S: Final = 0.02

ContextChoice = Callable[[], ssl.SSLContext]


@contextmanager
def serve(
    paths: Paths, store: Store, clock: Clock, listen: Mapping[str, Address]
) -> Iterator[tuple[Urls, dict[str, Traffic]]]:
    """All three listen inside the ``with``, and a fourth if asked for; see ``Factory.serving``."""
    wanted = (*SERVERS, SIGN) if SIGN in listen else SERVERS
    with ExitStack() as stack:
        stack.enter_context(_served_once(paths.directory))
        stack.enter_context(store.kept_open())
        last = last_urls(paths)
        traffic = {name: Traffic(stack.enter_context(open_log(paths.log, name))) for name in wanted}
        servers: dict[str, FactoryServer] = {}
        stack.callback(lambda: stop([*servers.values()]))
        for name in wanted:
            app, context = _application(name, paths, store, traffic, clock)
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
            sign=_url("http", bound[SIGN]) + sign.PATH if SIGN in bound else "",
        )
        stack.enter_context(
            delivering(store, paths, Traffic(stack.enter_context(open_log(paths.log, "push"))))
        )
        _write_state(paths, urls)
        yield urls, traffic


def _application(
    name: str, paths: Paths, store: Store, traffic: Mapping[str, Traffic], clock: Clock
) -> tuple[Flask, ContextChoice | None]:
    """The application, and how a new connection finds its TLS context; None for plain HTTP."""
    if name == "gateway":
        return gateway.create_app(store, traffic[name], clock), Contexts(store, paths, "tls-crt")
    if name == "est":
        app = est.create_app(store, traffic[name], paths, clock)
        return app, Contexts(store, paths, "est-tls-crt")
    office = Office(paths, store, clock, lambda: _gateway_url(paths), traffic)
    return (sign if name == SIGN else api).create_app(office, traffic[name]), None


def _gateway_url(paths: Paths) -> str:
    """What a device is told that registers. RefusedError: in the moment before all is served."""
    urls = last_urls(paths)
    if urls is None:
        raise RefusedError(503, "cannot register: the factory is not served yet")
    return urls.gateway


@contextmanager
def _served_once(directory: Path) -> Iterator[None]:
    """Two servers of one factory would tell devices different addresses."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not _comes_true(lambda: _is_locked(descriptor)):
            raise FactoryError(
                f"cannot serve the factory in {directory}: it is being served already"
            )
        yield
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _comes_true(wanted: Callable[[], bool]) -> bool:
    """Within the time that the former server gets."""
    deadline = time.monotonic() + FORMER_S
    while not wanted():
        if time.monotonic() > deadline:
            return False
        time.sleep(FORMER_POLL_S)
    return True


def _last_address(url: str) -> Address:
    """Devices have the URL in their sota.toml, so a restart should not move it."""
    address = (LOOPBACK, urlsplit(url).port or 0)
    return address if _comes_true(lambda: is_free(address)) else (LOOPBACK, 0)


def _write_state(paths: Paths, urls: Urls) -> None:
    """factory.json: complete or not there, also after a power cut, and the servers listen."""
    temporary = paths.state.with_suffix(".json.tmp")
    served = {name: url for name, url in asdict(urls).items() if url}
    with temporary.open("w") as file:
        file.write(json.dumps({**served, "pid": os.getpid()}, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(paths.state)


def _url(scheme: str, address: Address) -> str:
    """Loopback is called localhost, the first name in the certificates that everybody has."""
    host, port = address
    if host in (LOOPBACK, "0.0.0.0"):  # noqa: S104  # compared, not bound
        host = LOOPBACK if scheme == "http" else "localhost"
    elif ":" in host:
        host = f"[{host}]"
    return f"{scheme}://{host}:{port}"
