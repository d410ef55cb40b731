"""A disk in memory that keeps what ``ports.Disk`` promises, and is copied in no time."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from fioagent.errors import ConfigError, TemporaryError

_MAX_LINKS: Final = 40  # as the kernel follows
_FREE: Final = 1 << 30  # bytes


@dataclass(frozen=True, slots=True)
class File:
    """Content, permissions, and the time of modification where somebody has set one."""

    content: bytes
    mode: int
    time: int = 0


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    target: str


class MemoryDisk:
    """``ports.Disk`` over a dictionary. Every change is whole, as of a disk that is synced."""

    def __init__(
        self,
        entries: dict[str, File | Link] | None = None,
        directories: frozenset[str] = frozenset(("/",)),
    ) -> None:
        self.entries = {} if entries is None else entries
        self.directories = directories
        self._held = False

    def copy(self) -> MemoryDisk:
        """What a power cut leaves: the files, and no lock."""
        return MemoryDisk(dict(self.entries), self.directories)

    def same_as(self, other: MemoryDisk) -> bool:
        return self.entries == other.entries and self.directories == other.directories

    def digest(self) -> str:
        """Of names, contents, permissions and times."""
        found = hashlib.sha256(repr(sorted(self.directories)).encode())
        for path in sorted(self.entries):
            found.update(repr((path, self.entries[path])).encode())
        return found.hexdigest()

    # --- looking ---

    def read(self, path: str) -> bytes:
        content = self.read_if_there(path)
        if content is None:
            raise ConfigError(f"cannot read {path}: no such file")
        return content

    def read_if_there(self, path: str) -> bytes | None:
        real = self.real_path(path)
        if real in self.directories:
            raise ConfigError(f"cannot read {path}: is a directory")
        found = self.entries.get(real)
        return found.content if isinstance(found, File) else None

    def names(self, directory: str) -> list[str]:
        start = self.real_path(directory).rstrip("/") + "/"
        known = [*self.entries, *self.directories]
        below = (path[len(start) :] for path in known if path.startswith(start))
        return sorted({name for name in below if name and "/" not in name})

    def real_path(self, path: str) -> str:
        # Links in the middle of a path are not needed here, so only its end is followed.
        path = os.path.normpath(path)
        for _ in range(_MAX_LINKS):
            found = self.entries.get(path)
            if not isinstance(found, Link):
                return path
            path = os.path.normpath(os.path.join(os.path.dirname(path), found.target))
        return path

    def is_directory(self, path: str) -> bool:
        return self.real_path(path) in self.directories

    def is_there(self, path: str) -> bool:
        path = os.path.normpath(path)
        return path in self.entries or path in self.directories

    def can_replace(self, path: str) -> bool:
        return os.path.dirname(self.real_path(path)) in self.directories

    def free_bytes(self, directory: str) -> int:
        self._require_directory("look at", directory, self.real_path(directory))
        return _FREE

    # --- changing ---

    def make_directory(self, path: str) -> None:
        path = os.path.normpath(path)
        self._require_directory("make", path, os.path.dirname(path))
        self.directories |= {path}

    def replace(
        self,
        path: str,
        content: bytes,
        *,
        mode: int = 0o600,
        keep_time: bool = False,
        modified_s: int | None = None,
    ) -> None:
        real = self.real_path(path)
        self._require_directory("write", path, os.path.dirname(real))
        before = self.entries.get(real)
        time = before.time if isinstance(before, File) and keep_time else 0
        mode = before.mode if isinstance(before, File) else mode
        self.entries[real] = File(content, mode, time if modified_s is None else modified_s)

    def append(self, path: str, content: bytes) -> None:
        real = self.real_path(path)
        self._require_directory("write", path, os.path.dirname(real))
        before = self.entries.get(real)
        if isinstance(before, File):
            self.entries[real] = File(before.content + content, before.mode)
        else:
            self.entries[real] = File(content, 0o600)

    def link(self, path: str, target: str) -> None:
        path = os.path.normpath(path)
        self._require_directory("link", path, os.path.dirname(path))
        self.entries[path] = Link(target)

    def rename(self, path: str, new: str) -> None:
        path, new = os.path.normpath(path), os.path.normpath(new)
        self._require_directory("rename", path, os.path.dirname(new))
        if path not in self.entries:
            raise ConfigError(f"cannot rename {path}: no such file or directory")
        self.entries[new] = self.entries.pop(path)

    def remove(self, path: str) -> None:
        self.entries.pop(os.path.normpath(path), None)

    def settle(self, paths: Iterable[str]) -> None:
        """All is durable at once here."""

    @contextlib.contextmanager
    def lock(self, path: str, purpose: str) -> Iterator[None]:
        if self._held:
            raise TemporaryError(
                f"cannot start: fioagent {purpose} is at work",
                hint="wait until it has ended; 'fioagent status' shows how far it is",
            )
        if not self.is_there(path):
            self.append(path, b"")
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def _require_directory(self, verb: str, path: str, directory: str) -> None:
        if directory not in self.directories:
            raise ConfigError(f"cannot {verb} {path}: no such file or directory")
