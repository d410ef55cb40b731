"""Journals in a directory of the test's, by the real disk."""

from __future__ import annotations

from pathlib import Path

from fioagent.disk import LocalDisk
from fioagent.rotation.journal import Journal
from fioagent.rotation.machine import Record


def journal(directory: Path) -> Journal:
    return Journal(LocalDisk(), str(directory))


def written(directory: Path, records: list[Record]) -> bytes:
    opened = journal(directory)
    for record in records:
        opened.add(record)
    return Path(opened.path).read_bytes()


def loaded(directory: Path) -> list[Record]:
    opened = journal(directory)
    opened.load()
    return opened.records


def put(directory: Path, content: bytes) -> Path:
    path = Path(journal(directory).path)
    path.write_bytes(content)
    return path
