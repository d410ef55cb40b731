"""What runs on the device, for events; never a reason to fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from fioagent.disk import LocalDisk
from fioagent.model import Target
from fioagent.rotation.current_target import read


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'TARGET_NAME="lmp-42"\nCUSTOM_VERSION="42"\n', Target("lmp-42", "42")),
        (b'CUSTOM_VERSION="42"\nOTHER="x"\nTARGET_NAME="lmp-42"', Target("lmp-42", "42")),
        (b'TARGET_NAME = "lmp-42" \r\nCUSTOM_VERSION = "42" \r\n', Target("lmp-42", "42")),
        (b'MY_TARGET_NAME="x"\n# TARGET_NAME="y"\n', Target("", "0")),
        (b'TARGET_NAME="lmp-42"\n', Target("lmp-42", "0")),
        (b"TARGET_NAME=lmp-42\nCUSTOM_VERSION=42\n", Target("", "0")),
        (b"", Target("", "0")),
        (b"\xff\x00\xfe", Target("", "0")),
        (b'TARGET_NAME="\xff"\nCUSTOM_VERSION="7"\n', Target("\ufffd", "7")),
    ],
)
def test_name_and_version_are_read_where_they_are(
    tmp_path: Path, content: bytes, expected: Target
) -> None:
    """As aktualizr-lite writes it; "" and "0" for what is not there, as fioconfig sends."""
    (tmp_path / "current-target").write_bytes(content)

    assert expected == read(LocalDisk(), str(tmp_path))


def test_an_absent_file_is_no_error(tmp_path: Path) -> None:
    assert Target("", "0") == read(LocalDisk(), str(tmp_path))


def test_an_unreadable_file_is_no_error(tmp_path: Path) -> None:
    """Events without a target are better than no rotation."""
    (tmp_path / "current-target").mkdir()

    assert Target("", "0") == read(LocalDisk(), str(tmp_path))
