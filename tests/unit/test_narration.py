"""What the machine's journal is told, and how urgent it is."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from fioagent import log, narration
from fioagent.errors import ConfigError, TemporaryError
from fioagent.log import Log
from fioagent.model import Exit


class Kept(Log):
    """A journal that a test reads."""

    def __init__(self) -> None:
        super().__init__({})
        self.entries: list[tuple[str, int, str, Mapping[str, object]]] = []

    def say(self, kind: str, priority: int, message: str, fields: Mapping[str, object]) -> None:
        self.entries.append((kind, priority, message, fields))


@pytest.mark.parametrize(
    ("error", "code", "priority"),
    [
        (TemporaryError("cannot reach gw: timed out"), Exit.TRY_AGAIN, log.WARNING),
        (ConfigError("cannot read x: no such file"), Exit.CONFIG, log.ERROR),
    ],
)
def test_a_line_that_is_down_needs_nobody(
    error: TemporaryError | ConfigError, code: Exit, priority: int
) -> None:
    """Every check-in of a device without a network would be an error otherwise."""
    journal = Kept()

    narration.trouble(journal, error, code)

    ((kind, found, message, fields),) = journal.entries
    assert (kind, found, message) == (log.TROUBLE, priority, str(error))
    assert fields == {"OUTCOME": "not-begun", "EXIT": code}
