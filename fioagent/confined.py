"""Files below one directory and never outside it, whatever their names and whatever lies there.

Names are walked part by part from an open directory, and no symbolic link is
followed on the way (openat(2) with O_NOFOLLOW), so neither ``..`` nor a link that
somebody has put there leads out. The directory is usually in memory (/run), but
a file is synced all the same: nobody says that it must be.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Final

from fioagent.config.extraction import RESERVED_END, unfit
from fioagent.errors import ConfigError

_FILE_MODE: Final = 0o640
_DIRECTORY_MODE: Final = 0o750  # of the secrets directory itself, where we make it
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class ConfinedFiles:
    """``config.ports.SecretFiles`` below a directory, which is made when it is needed."""

    def __init__(self, directory: str) -> None:
        self._directory = os.path.abspath(directory)

    @property
    def directory(self) -> str:
        return self._directory

    def read(self, name: str) -> bytes | None:
        with self._told("read", name):
            try:
                with self._parent(name, make=False) as (parent, last):
                    return _content(parent, last)
            # A file, or a link, where a directory would have to be: so this one is not there.
            except (FileNotFoundError, NotADirectoryError):
                return None

    def write(self, name: str, content: bytes) -> None:
        with self._told("write", name), self._parent(name, make=True) as (parent, last):
            temporary = f".{last}{RESERVED_END}"
            try:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=parent)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                descriptor = os.open(temporary, flags, 0o600, dir_fd=parent)
                with open(descriptor, "wb") as file:
                    os.fchmod(descriptor, _FILE_MODE)
                    file.write(content)
                    file.flush()
                    os.fsync(descriptor)
                os.replace(temporary, last, src_dir_fd=parent, dst_dir_fd=parent)
                os.fsync(parent)
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=parent)
                raise

    def remove(self, name: str) -> bool:
        with self._told("remove", name):
            try:
                with self._parent(name, make=False) as (parent, last):
                    os.unlink(last, dir_fd=parent)
                    os.fsync(parent)
            except (FileNotFoundError, NotADirectoryError):
                return False
        self._prune(name.split("/")[:-1])
        return True

    def _prune(self, parts: Sequence[str]) -> None:
        """Directories that are empty now; one that is not ends it."""
        with contextlib.suppress(OSError):
            for depth in range(len(parts), 0, -1):
                with self._parent("/".join(parts[:depth]), make=False) as (parent, last):
                    os.rmdir(last, dir_fd=parent)

    @contextlib.contextmanager
    def _parent(self, name: str, *, make: bool) -> Iterator[tuple[int, str]]:
        """An open directory, and the last part of ``name`` in it."""
        why = unfit(name)
        if why is not None:
            raise ConfigError(f"cannot use {name!r}: {why}")
        if make and not os.path.isdir(self._directory):
            os.makedirs(self._directory, _DIRECTORY_MODE)
            os.chmod(self._directory, _DIRECTORY_MODE)  # whatever the umask says
        *parts, last = name.split("/")
        opened = [os.open(self._directory, _DIRECTORY)]
        try:
            mode = stat.S_IMODE(os.fstat(opened[0]).st_mode)
            for part in parts:
                opened.append(_below(opened[-1], part, mode if make else None))
            yield opened[-1], last
        finally:
            for descriptor in opened:
                os.close(descriptor)

    @contextlib.contextmanager
    def _told(self, verb: str, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = (os.strerror(error.errno) if error.errno else str(error)).lower()
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                reason = "something on the way is no directory"
            path = os.path.join(self._directory, name)
            raise ConfigError(f"cannot {verb} {path}: {reason}") from error


def _below(parent: int, name: str, mode: int | None) -> int:
    """The directory ``name`` in ``parent``; made with ``mode`` where it is given."""
    flags = _DIRECTORY | os.O_NOFOLLOW
    if mode is None:
        return os.open(name, flags, dir_fd=parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, mode, dir_fd=parent)
        descriptor = os.open(name, flags, dir_fd=parent)
        os.fchmod(descriptor, mode)  # whatever the umask says
        os.fsync(parent)
        return descriptor
    return os.open(name, flags, dir_fd=parent)


def _content(parent: int, name: str) -> bytes | None:
    """None for whatever is no regular file: a write replaces it."""
    try:
        # O_NONBLOCK: a pipe that somebody has put there must not make us wait.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            return None
        raise
    with open(descriptor, "rb") as file:
        return file.read() if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
