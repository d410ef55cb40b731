"""Files that are whole or as before: modes, owners, times, links and left-overs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fioagent.disk import LocalDisk
from fioagent.errors import ConfigError
from tests import needs

_DISK = LocalDisk()
_LONG_AGO_NS = 1_000_000_000_123_456_789


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_a_new_file_has_the_mode_asked_for(tmp_path: Path, umask: int) -> None:
    """Whatever the umask: a key is never readable by others, a marker always."""
    before = os.umask(umask)
    try:
        _DISK.replace(str(tmp_path / "key"), b"k")
        _DISK.replace(str(tmp_path / "marker"), b"m", mode=0o644)
        _DISK.append(str(tmp_path / "journal"), b"j")
    finally:
        os.umask(before)

    assert [0o600, 0o644, 0o600] == [_mode(tmp_path / n) for n in ("key", "marker", "journal")]
    assert b"k" == (tmp_path / "key").read_bytes()


@pytest.mark.parametrize("mode", [0o640, 0o600, 0o666, 0o400])
def test_a_file_that_exists_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "sota.toml"
    file.write_bytes(b"old")
    file.chmod(mode)

    _DISK.replace(str(file), b"new", mode=0o644)

    assert (b"new", mode) == (file.read_bytes(), _mode(file))


def test_a_file_that_exists_keeps_its_owner(tmp_path: Path) -> None:
    needs.root_and()
    file = tmp_path / "sota.toml"
    file.write_bytes(b"old")
    os.chown(file, 1234, 4321)
    file.chmod(0o640)

    _DISK.replace(str(file), b"new")

    assert (1234, 4321, 0o640) == (file.stat().st_uid, file.stat().st_gid, _mode(file))


@pytest.mark.parametrize("keep", [False, True])
def test_the_time_is_kept_only_where_it_is_asked_for(tmp_path: Path, keep: bool) -> None:
    """The config's Last-Modified is kept in the file's time, to the nanosecond."""
    file = tmp_path / "config.encrypted"
    file.write_bytes(b"old")
    os.utime(file, ns=(_LONG_AGO_NS, _LONG_AGO_NS))

    _DISK.replace(str(file), b"new", keep_time=keep)

    assert keep == (_LONG_AGO_NS == file.stat().st_mtime_ns)
    assert b"new" == file.read_bytes()


def test_keeping_the_time_of_a_new_file_is_fine(tmp_path: Path) -> None:
    _DISK.replace(str(tmp_path / "new"), b"x", keep_time=True)

    assert b"x" == (tmp_path / "new").read_bytes()


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    """What others have linked to changes; the link itself and its directory do not."""
    real = tmp_path / "persist" / "sota.toml"
    real.parent.mkdir()
    real.write_bytes(b"old")
    link = tmp_path / "sota.toml"
    link.symlink_to("persist/sota.toml")

    _DISK.replace(str(link), b"new")

    assert (b"new", "persist/sota.toml") == (real.read_bytes(), os.readlink(link))
    assert ["persist", "sota.toml"] == _DISK.names(str(tmp_path))
    assert ["sota.toml"] == _DISK.names(str(real.parent))


def test_whoever_has_the_old_file_open_reads_on(tmp_path: Path) -> None:
    """The name moves to another file: a reader in the middle of the old one is not torn."""
    file = tmp_path / "f"
    file.write_bytes(b"old")

    with file.open("rb") as reader:
        _DISK.replace(str(file), b"brand-new")
        assert b"old" == reader.read()


def test_a_left_over_of_a_power_cut_is_no_obstacle(tmp_path: Path) -> None:
    """The temporary file of a run that was cut is taken away, never reused with its mode."""
    file = tmp_path / "key"
    (left_over,) = _temporaries_of(file)
    left_over.write_bytes(b"half of a very long thing")
    left_over.chmod(0o666)

    _DISK.replace(str(file), b"k")

    assert [file] == list(tmp_path.iterdir())
    assert (b"k", 0o600) == (file.read_bytes(), _mode(file))


def _temporaries_of(file: Path) -> list[Path]:
    """The names that a replacement uses besides ``file``, seen from outside while it writes."""
    program = (
        "import resource, sys; from fioagent.disk import LocalDisk;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1));"
        "LocalDisk().replace(sys.argv[1], b'x' * 4096)"
    )
    # SIGXFSZ ends the process between two writes, as a power cut would.
    command = [sys.executable, "-c", "import signal; signal.signal(25, 0);" + program, str(file)]
    ended = subprocess.run(command, check=False)
    assert -signal.SIGXFSZ == ended.returncode
    return [path for path in file.parent.iterdir() if path != file]


@pytest.mark.parametrize("name", ["sota.toml", "a.new", "x", "pkey.certs-1.pem"])
def test_a_cut_leaves_the_old_file_and_a_harmless_name(tmp_path: Path, name: str) -> None:
    """aktualizr-lite deletes ``*.new`` and reads ``*.toml``: a temporary name is neither."""
    file = tmp_path / name
    file.write_bytes(b"old")

    left_overs = [path.name for path in _temporaries_of(file)]

    assert 1 == len(left_overs)
    assert left_overs[0].startswith(".")
    assert not left_overs[0].endswith((".new", ".toml", ".pem"))
    assert b"old" == file.read_bytes()


def test_a_failure_leaves_everything_as_before(tmp_path: Path) -> None:
    """No temporary file stays, in the words of a user."""
    directory = tmp_path / "d"
    directory.mkdir()

    with pytest.raises(ConfigError, match=rf"cannot write {directory}: is a directory"):
        _DISK.replace(str(directory), b"x")
    with pytest.raises(ConfigError, match=r"cannot write .*/absent/f: no such file or directory"):
        _DISK.replace(str(tmp_path / "absent" / "f"), b"x")
    assert [directory] == list(tmp_path.iterdir())
    assert [] == list(directory.iterdir())


def test_append_adds_to_the_end(tmp_path: Path) -> None:
    file = tmp_path / "journal"

    _DISK.append(str(file), b"one\n")
    _DISK.append(str(file), b"two\n")

    assert b"one\ntwo\n" == file.read_bytes()


def test_a_link_takes_the_place_of_whatever_was_there(tmp_path: Path) -> None:
    """A file, another link, a dangling one, a left-over: afterwards there is one link."""
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nowhere")

    for name in ("file", "link", "dangling", "absent"):
        _DISK.link(str(tmp_path / name), "target.pem")
        _DISK.link(str(tmp_path / name), "target.pem")
        assert "target.pem" == os.readlink(tmp_path / name)

    assert ["absent", "dangling", "file", "link"] == _DISK.names(str(tmp_path))


def test_a_link_where_none_can_be_leaves_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    directory.mkdir()

    with pytest.raises(ConfigError, match=r"cannot link .*: is a directory"):
        _DISK.link(str(directory), "target")

    assert [directory] == list(tmp_path.iterdir())


def test_removing_twice_is_fine_and_touches_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "b").symlink_to("c")
    (tmp_path / "c").write_bytes(b"")

    for _ in range(2):
        _DISK.remove(str(tmp_path / "a"))
        _DISK.remove(str(tmp_path / "b"))

    assert [tmp_path / "c"] == list(tmp_path.iterdir())


def test_renaming_takes_a_half_written_copy_away(tmp_path: Path) -> None:
    """Of the name that is given up; nobody would ever look at it again."""
    path, copy = tmp_path / "journal", tmp_path / ".journal.fioagent-tmp"
    path.write_bytes(b"whole")
    copy.write_bytes(b"wh")

    LocalDisk().rename(str(path), str(tmp_path / "ended"))

    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"ended": b"whole"}


def test_removing_a_key_takes_its_half_written_copy_along(tmp_path: Path) -> None:
    """A power cut may have left it, and it is a private key too."""
    file = tmp_path / "pkey.pem"
    assert _temporaries_of(file)

    _DISK.remove(str(file))

    assert [] == list(tmp_path.iterdir())


def test_what_is_not_there_reads_as_such(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    (tmp_path / "dangling").symlink_to("nowhere")

    assert _DISK.read_if_there(absent) is None
    assert [] == _DISK.names(absent)
    assert not _DISK.is_there(absent)
    assert _DISK.is_there(str(tmp_path / "dangling"))
    with pytest.raises(ConfigError, match=f"cannot read {absent}: no such file"):
        _DISK.read(absent)
    with pytest.raises(ConfigError, match="cannot look at"):
        _DISK.free_bytes(absent)


def test_a_directory_is_for_us_alone_and_made_once(tmp_path: Path) -> None:
    directory = tmp_path / "fioagent"

    _DISK.make_directory(str(directory))
    _DISK.make_directory(str(directory))

    assert 0o700 == _mode(directory)
    assert _DISK.is_directory(str(directory))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"cannot make .*/file: file exists"):
        _DISK.make_directory(str(tmp_path / "file"))


def test_a_rename_replaces(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")

    _DISK.rename(str(tmp_path / "a"), str(tmp_path / "b"))

    assert ["b"] == _DISK.names(str(tmp_path))
    assert b"a" == _DISK.read(str(tmp_path / "b"))
    with pytest.raises(ConfigError, match=r"cannot rename .*/a: no such file"):
        _DISK.rename(str(tmp_path / "a"), str(tmp_path / "c"))
