"""A factory for the whole run, a new device for each test; and runs that are brief."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from fioagent.factory import Factory, Urls
from tests.token_world import TokenWorld
from tests.tokens import soft_token
from tests.world import World

BRIEF: Final = 2  # rows of each table


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--brief", action="store_true", help=f"of each table of parameters {BRIEF} rows only"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What another Python does otherwise, it does in the first rows of a table already."""
    if not config.getoption("--brief"):
        return
    taken: Counter[str] = Counter()
    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    for item in items:
        table = item.nodeid.partition("[")[0]
        taken[table] += 1
        (kept if taken[table] <= BRIEF else left).append(item)
    config.hook.pytest_deselected(items=left)
    items[:] = kept


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Factory, Urls]]:
    factory = Factory.create(tmp_path_factory.mktemp("factory") / "lab")
    with factory.serving() as urls:
        yield factory, urls


@pytest.fixture
def new_world(served: tuple[Factory, Urls], tmp_path: Path) -> Iterator[Callable[[], World]]:
    """Makes devices; the factory's knobs and faults are back at their defaults afterwards."""
    factory, urls = served
    defaults = dict(factory.knobs())
    made = 0

    def make() -> World:
        nonlocal made
        made += 1
        return World(factory, urls, tmp_path / f"device-{made}")

    factory.clear_requests()
    yield make
    factory.clear_faults()
    for name, value in defaults.items():
        factory.set_knob(name, value)


@pytest.fixture
def world(new_world: Callable[[], World]) -> World:
    """A registered device with an encrypted configuration."""
    made = new_world()
    made.give_config()
    return made


@pytest.fixture
def bare(new_world: Callable[[], World]) -> World:
    """A registered device, of which nobody has configured anything."""
    return new_world()


@pytest.fixture
def token_world(served: tuple[Factory, Urls], tmp_path: Path) -> Iterator[TokenWorld]:
    """A registered device whose key is in a SoftHSM token."""
    factory, urls = served
    defaults = dict(factory.knobs())
    yield TokenWorld(factory, urls, tmp_path / "device", soft_token(tmp_path / "token"))
    for name, value in defaults.items():
        factory.set_knob(name, value)
