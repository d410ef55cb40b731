"""The only place where files change. Four calls in one order make a change durable.

write to a temporary file in the same directory, fsync it, rename it, fsync the
directory. Temporary names begin with a dot and never end in ``.new``:
aktualizr-lite deletes ``<file>.new`` beside anything it reads.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from typing import Final

from fioagent import causes
from fioagent.errors import ConfigError, TemporaryError

_TEMPORARY: Final = ".fioagent-tmp"
# fsync(2) on a file system that is read-only for good (squashfs), or for now.
_NEVER_WRITTEN: Final = (errno.EINVAL, errno.EROFS)


class LocalDisk:
    """``ports.Disk`` on a POSIX file system."""

    def read(self, path: str) -> bytes:
        content = self.read_if_there(path)
        if content is None:
            raise ConfigError(f"cannot read {path}: no such file")
        return content

    def read_if_there(self, path: str) -> bytes | None:
        try:
            with open(path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _refused("read", path, error) from error

    def names(self, directory: str) -> list[str]:
        try:
            return sorted(os.listdir(directory))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _refused("list", directory, error) from error

    def real_path(self, path: str) -> str:
        return os.path.realpath(path)

    def is_directory(self, path: str) -> bool:
        return os.path.isdir(path)

    def is_there(self, path: str) -> bool:
        # Not os.path.lexists: it takes a disk in trouble for a file that is gone.
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise _refused("look at", path, error) from error
        return True

    def can_replace(self, path: str) -> bool:
        directory = os.path.dirname(os.path.realpath(path))
        return os.access(directory, os.W_OK | os.X_OK)

    def free_bytes(self, directory: str) -> int:
        try:
            status = os.statvfs(directory)
        except OSError as error:
            raise _refused("look at", directory, error) from error
        return status.f_bavail * status.f_frsize

    def make_directory(self, path: str) -> None:
        if os.path.isdir(path):
            return
        try:
            os.mkdir(path, 0o700)
            _sync_directory(os.path.dirname(path))
        except OSError as error:
            raise _refused("make", path, error) from error

    def replace(
        self,
        path: str,
        content: bytes,
        *,
        mode: int = 0o600,
        keep_time: bool = False,
        modified_s: int | None = None,
    ) -> None:
        # A link is followed: the file behind it is what others have open.
        target = os.path.realpath(path)
        temporary = _temporary(target)
        try:
            before = _status(target)
            time_ns = before.st_mtime_ns if before is not None and keep_time else None
            if modified_s is not None:
                time_ns = modified_s * 1_000_000_000
            _write(temporary, content, before, mode, time_ns)
            os.replace(temporary, target)
            _sync_directory(os.path.dirname(target))
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise _refused("write", path, error) from error

    def append(self, path: str, content: bytes) -> None:
        try:
            fresh = not os.path.lexists(path)
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                _write_all(descriptor, content)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if fresh:
                _sync_directory(os.path.dirname(path))
        except OSError as error:
            raise _refused("write", path, error) from error

    def link(self, path: str, target: str) -> None:
        temporary = _temporary(path)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            os.symlink(target, temporary)
            os.replace(temporary, path)
            _sync_directory(os.path.dirname(path))
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise _refused("link", path, error) from error

    def rename(self, path: str, new: str) -> None:
        try:
            # First: once the name is given up, nobody looks for what lies half-written beside it.
            if _unlinked(_temporary(path)):
                _sync_directory(os.path.dirname(path))
            os.replace(path, new)
            _sync_directory(os.path.dirname(new))
        except OSError as error:
            raise _refused("rename", path, error) from error

    def remove(self, path: str) -> None:
        try:
            # A power cut may have left a temporary copy behind, of a key perhaps.
            gone = [_unlinked(name) for name in (path, _temporary(path))]
            if any(gone):
                _sync_directory(os.path.dirname(path))
        except OSError as error:
            raise _refused("remove", path, error) from error

    def settle(self, paths: Iterable[str]) -> None:
        names = set()
        for path in paths:
            target = os.path.realpath(path)
            # A link is a name too, and lies where it lies.
            names |= {target, os.path.dirname(target), os.path.dirname(os.path.abspath(path))}
        # Files before the directories that name them.
        for name in sorted(names, key=len, reverse=True):
            try:
                _sync(name)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno not in _NEVER_WRITTEN:
                    raise _refused("write", name, error) from error

    @contextlib.contextmanager
    def lock(self, path: str, purpose: str) -> Iterator[None]:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _refused("lock", path, error) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:  # somebody else holds it
                holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
                facts = {"holder": holder or "another process"}
                raise TemporaryError.of(causes.AT_WORK, facts) from error
            except OSError as error:
                raise _refused("lock", path, error) from error
            # For people only: neither durable nor worth failing for on a full disk.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"fioagent {purpose} (process {os.getpid()})\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)


def lock_holder(path: str) -> str | None:
    """Who holds the lock at ``path``, as it says of itself; None where nobody does.

    Looked up, not tried: whoever wants the lock at this very moment shall get it. Where
    the kernel's list of locks is hidden, nobody is told of.
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            said, inode = file.read(200).strip(), os.fstat(file.fileno()).st_ino
        with open("/proc/locks", encoding="ascii") as locks:
            held = [line.split() for line in locks]
    except OSError:
        return None
    # proc_locks(5): number, kind, mode, access, process, device:inode. The device of some
    # file systems differs from what stat says, so the process has to be the right one too.
    process = said.rpartition("(process ")[2].rstrip(")")
    found = any(
        (fields[1], fields[-4]) == ("FLOCK", process)
        and fields[-3].rpartition(":")[2] == str(inode)
        for fields in held
        if len(fields) >= 8
    )
    return said if found else None


def _unlinked(path: str) -> bool:
    """Whether it was there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def _temporary(path: str) -> str:
    directory, name = os.path.split(path)
    return os.path.join(directory, f".{name}{_TEMPORARY}")


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _write(
    path: str, content: bytes, before: os.stat_result | None, mode: int, time_ns: int | None
) -> None:
    # One process at a time holds the lock, so a left-over of a power cut is free to go.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if before is not None and (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(descriptor, before.st_uid, before.st_gid)
        os.fchmod(descriptor, mode if before is None else stat.S_IMODE(before.st_mode))
        _write_all(descriptor, content)
        if time_ns is not None:
            os.utime(descriptor, ns=(time_ns, time_ns))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def _sync_directory(path: str) -> None:
    _sync(path or ".", os.O_DIRECTORY)


def _sync(path: str, flags: int = 0) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refused(verb: str, path: str, error: OSError) -> ConfigError:
    reason = (os.strerror(error.errno) if error.errno else str(error)).lower()
    hint = None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = f"free some space on the file system of {path}"
    elif error.errno == errno.EROFS:
        hint = f"the file system of {path} is mounted read-only; mount it writable"
    return ConfigError(f"cannot {verb} {path}: {reason}", hint=hint)
