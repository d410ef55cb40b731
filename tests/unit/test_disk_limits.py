"""A disk that is full, mounted read-only, or locked by another process."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from fioagent.disk import LocalDisk
from fioagent.errors import ConfigError, TemporaryError

from . import made

_DISK = LocalDisk()


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_a_full_disk_keeps_what_was_there(small: Path) -> None:
    """Neither the old file nor the directory is touched, and the hint says what to do."""
    file = small / "sota.toml"
    file.write_bytes(b"old")
    filler = made.fill(small)

    with pytest.raises(ConfigError, match=r"cannot write .*: no space left on device") as caught:
        _DISK.replace(str(file), b"x" * 5000)

    assert f"free some space on the file system of {file}" == caught.value.hint
    assert b"old" == file.read_bytes()
    assert ["filler", "sota.toml"] == _DISK.names(str(small))
    filler.unlink()
    _DISK.replace(str(file), b"x" * 5000)
    assert 5000 == file.stat().st_size


def test_an_append_to_a_full_disk_harms_nothing_before_it(small: Path) -> None:
    file = small / "journal"
    _DISK.append(str(file), b"first\n")
    made.fill(small)

    with pytest.raises(ConfigError, match="no space left on device"):
        _DISK.append(str(file), b"x" * 20_000)

    assert b"first\n" == file.read_bytes()[:6]


def test_the_lock_can_be_taken_on_a_full_disk(small: Path) -> None:
    """Who holds it is for people only; a full disk must not stop the agent that could tell."""
    (small / "lock").touch()
    made.fill(small)

    with _DISK.lock(str(small / "lock"), "status"):
        assert _DISK.free_bytes(str(small)) < resource.getpagesize()


def test_a_disk_mounted_read_only_is_told(small: Path) -> None:
    (small / "f").write_bytes(b"old")
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)

    assert not _DISK.can_replace(str(small / "f"))
    with pytest.raises(ConfigError, match="read-only file system") as caught:
        _DISK.replace(str(small / "f"), b"new")
    assert "mount it writable" in str(caught.value.hint)
    assert b"old" == _DISK.read(str(small / "f"))


_HOLDER = """
import sys
from fioagent.disk import LocalDisk
with LocalDisk().lock(sys.argv[1], "rotate"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    """One at a time; and the lock is free when its holder dies, however it dies."""
    path = str(tmp_path / "lock")
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert "held\n" == holder.stdout.readline()

        with (
            pytest.raises(
                TemporaryError,
                match=rf"cannot start: fioagent rotate \(process {holder.pid}\) is at work",
            ) as caught,
            _DISK.lock(path, "status"),
        ):
            raise AssertionError("two at a time")
        assert "fioagent status" in str(caught.value.hint)
        holder.kill()

    with _DISK.lock(path, "status"):
        assert b"fioagent status (process %d)\n" % os.getpid() == Path(path).read_bytes()


def test_a_lock_is_released_after_an_error(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")

    with pytest.raises(ZeroDivisionError), _DISK.lock(path, "a longer purpose"):
        raise ZeroDivisionError

    with _DISK.lock(path, "x"):
        assert b"fioagent x (process %d)\n" % os.getpid() == Path(path).read_bytes()
    assert 0o600 == _mode(Path(path))


def test_a_lock_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"cannot lock .*/absent/lock: no such file or directory"),
        _DISK.lock(str(tmp_path / "absent" / "lock"), "rotate"),
    ):
        raise AssertionError("no lock, no work")
