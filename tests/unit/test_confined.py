"""Files below one directory: durable, private, and never anywhere else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from fioagent.confined import ConfinedFiles
from fioagent.errors import ConfigError


@pytest.fixture
def files(tmp_path: Path) -> ConfinedFiles:
    (tmp_path / "secrets").mkdir(mode=0o751)
    return ConfinedFiles(str(tmp_path / "secrets"))


def test_what_was_written_is_read(files: ConfinedFiles) -> None:
    files.write("a/b", b"1")
    files.write("a/b", b"2")

    assert files.read("a/b") == b"2"
    assert files.read("a/c") is None
    assert files.read("x/y") is None
    assert files.read("a/b/c") is None


def test_directories_have_the_mode_of_the_first(files: ConfinedFiles) -> None:
    """Whatever the umask: containers with a group read there."""
    os.chmod(files.directory, 0o751)  # noqa: S103  # a mode that no umask makes
    files.write("a/b/c", b"1")

    made = [Path(files.directory, name) for name in ("a", "a/b", "a/b/c")]

    assert [stat.S_IMODE(path.stat().st_mode) for path in made] == [0o751, 0o751, 0o640]


def test_removing_takes_empty_directories_along(files: ConfinedFiles) -> None:
    """But not those in which something is left, and not the first."""
    files.write("a/b/c", b"1")
    files.write("a/d", b"1")

    assert files.remove("a/b/c")
    assert not files.remove("a/b/c")
    assert not files.remove("x/y")

    assert os.listdir(f"{files.directory}/a") == ["d"]
    assert files.remove("a/d")
    assert os.listdir(files.directory) == []


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", ""])
def test_no_name_leads_out(files: ConfinedFiles, name: str) -> None:
    """The last line of defence: whoever calls has to have asked before."""
    for act in (files.read, files.remove, lambda n: files.write(n, b"1")):
        with pytest.raises(ConfigError, match="cannot use"):
            act(name)


def test_a_link_on_the_way_is_not_followed(files: ConfinedFiles, tmp_path: Path) -> None:
    """Neither to read, nor to write, nor to remove."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_bytes(b"theirs")
    Path(files.directory, "link").symlink_to(elsewhere)

    assert files.read("link/file") is None
    assert not files.remove("link/file")
    with pytest.raises(ConfigError, match="something on the way is no directory"):
        files.write("link/file", b"ours")

    assert (elsewhere / "file").read_bytes() == b"theirs"


def test_a_link_at_the_end_is_replaced(files: ConfinedFiles, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"theirs")
    Path(files.directory, "a").symlink_to(victim)

    assert files.read("a") is None
    files.write("a", b"ours")

    assert victim.read_bytes() == b"theirs"
    assert files.read("a") == b"ours"


def test_what_a_dead_process_left_is_in_nobodys_way(files: ConfinedFiles) -> None:
    """Its temporary file."""
    Path(files.directory, ".a.fioagent-tmp").write_bytes(b"half")

    files.write("a", b"whole")

    assert os.listdir(files.directory) == ["a"]


def test_the_directory_may_be_a_link(tmp_path: Path) -> None:
    """/var/run is one."""
    (tmp_path / "run").mkdir()
    (tmp_path / "var-run").symlink_to("run")

    ConfinedFiles(str(tmp_path / "var-run" / "secrets")).write("a", b"1")

    assert (tmp_path / "run" / "secrets" / "a").read_bytes() == b"1"


def test_a_disk_in_trouble_is_told_with_the_name(tmp_path: Path) -> None:
    """A file where the secrets directory should be."""
    (tmp_path / "secrets").write_bytes(b"")
    files = ConfinedFiles(str(tmp_path / "secrets"))

    with pytest.raises(ConfigError, match=r"cannot write .*/secrets/a: "):
        files.write("a", b"1")
    assert files.read("a") is None
