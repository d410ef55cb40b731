"""A factory of its own for each test, really served over loopback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import requests

from fioagent.factory import Factory, Urls
from tests.factory.operator import Operator
from tests.factory.peers import Client, Clock, Credential


class Lab:
    """A served factory, and what a test needs to talk to it."""

    def __init__(self, factory: Factory, urls: Urls, clock: Clock, tmp_path: Path) -> None:
        self.factory = factory
        self.urls = urls
        self.clock = clock
        self.tmp_path = tmp_path
        self.stack = ExitStack()

    def credential(self, uuid: str = "device-1", **how: object) -> Credential:
        """A new pair for ``uuid`` from one of the factory's CAs; see ``Credential.issue``."""
        directory = self.tmp_path / f"credential-{len(list(self.tmp_path.iterdir()))}"
        return Credential.issue(self.factory, directory, uuid, **how)  # type: ignore[arg-type]

    def client(self, credential: Credential | None = None) -> Client:
        """Closed at the end of the test."""
        return self.stack.enter_context(closing(Client(self.factory, self.urls, credential)))

    def device(self, uuid: str = "device-1") -> Client:
        """A client with a credential of its own, which the gateway has seen."""
        client = self.client(self.credential(uuid))
        assert client.get("/device").status_code == 200
        return client


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def unserved(tmp_path: Path, clock: Clock) -> Factory:
    return Factory.create(tmp_path / "factory", clock=clock)


@pytest.fixture
def lab(unserved: Factory, clock: Clock, tmp_path: Path) -> Iterator[Lab]:
    with unserved.serving() as urls:
        lab = Lab(unserved, urls, clock, tmp_path)
        with lab.stack:
            yield lab


@pytest.fixture
def operator(lab: Lab) -> Iterator[Operator]:
    with requests.Session() as session:
        yield Operator(lab.factory, lab.urls, session)
