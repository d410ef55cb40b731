"""What is remembered between check-ins, and what is not believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from fioagent.config import stored
from fioagent.config.extraction import Call
from fioagent.config.stored import Memory
from fioagent.disk import LocalDisk
from fioagent.model import sha256_hex

DATE = "Sat, 21 Nov 2026 14:08:05 CEST"
MEMORY = Memory(DATE, sha256_hex(b"copy"), (Call("a", ("/run", "x")), Call("b/c", ("/run",))))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    """0600, whatever is in it."""
    stored.save(LocalDisk(), str(tmp_path), MEMORY)

    assert stored.load(LocalDisk(), str(tmp_path)) == MEMORY
    assert (tmp_path / stored.NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\xff",
        b'{"date": 1, "sha256": "", "due": []}',
        b'{"date": null, "sha256": null, "due": []}',
        b'{"date": null, "sha256": "", "due": [1]}',
        b'{"date": null, "sha256": "", "due": null}',
        b'{"date": null, "sha256": "", "due": [["a", []]]}',
        b"[" * 100_000,
    ],
    ids=range(11),
)
def test_what_is_damaged_was_never_remembered(tmp_path: Path, content: bytes) -> None:
    """A check-in fetches the whole then."""
    (tmp_path / stored.NAME).write_bytes(content)

    assert stored.load(LocalDisk(), str(tmp_path)) == Memory()


def test_a_date_belongs_to_one_copy() -> None:
    """Of any other it says nothing."""
    assert MEMORY.since(b"copy") == DATE
    assert MEMORY.since(b"another") is None
    assert MEMORY.since(None) is None
    assert Memory().since(b"") is None


@pytest.mark.parametrize("date", [None, "", "x" * 65, "a\r\nb: c", "\u00fc"])
def test_a_date_that_cannot_be_sent_back_is_not_kept(date: str | None) -> None:
    """It would become a header."""
    assert stored.usable_date(date) is None
    assert stored.usable_date(DATE) == DATE


def test_of_two_handlers_for_a_file_the_later_counts() -> None:
    assert stored.together(MEMORY.due, [Call("a", ("/new",))]) == (
        Call("a", ("/new",)),
        MEMORY.due[1],
    )
