"""A pair that was replaced is gone, wherever it was and wherever the power failed meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fioagent.disk import LocalDisk
from fioagent.model import CredentialRef

from . import keystores, made

_OLD_KEY = made.new_key()
Scene = Callable[[Path], tuple[CredentialRef, CredentialRef]]


def _new_pair(storage: Path) -> CredentialRef:
    return keystores.put(keystores.pair(storage, ".certs-2"))


def _as_registered(root: Path) -> tuple[CredentialRef, CredentialRef]:
    (root / "sota").mkdir()
    return keystores.put(keystores.pair(root / "sota"), _OLD_KEY), _new_pair(root / "sota")


def _rotated_before(root: Path) -> tuple[CredentialRef, CredentialRef]:
    (root / "sota").mkdir()
    old = keystores.put(keystores.pair(root / "sota", ".certs-1"), _OLD_KEY)
    (root / "sota" / "pkey.pem").symlink_to("pkey.certs-1.pem")
    (root / "sota" / "client.pem").symlink_to(root / "sota" / "client.certs-1.pem")
    return old, _new_pair(root / "sota")


def _named_by_the_link(root: Path) -> tuple[CredentialRef, CredentialRef]:
    _, new = _rotated_before(root)
    return keystores.pair(root / "sota"), new


def _elsewhere(root: Path) -> tuple[CredentialRef, CredentialRef]:
    (root / "sota").mkdir()
    (root / "keys").mkdir()
    return keystores.put(keystores.pair(root / "keys"), _OLD_KEY), _new_pair(root / "sota")


def _elsewhere_with_links(root: Path) -> tuple[CredentialRef, CredentialRef]:
    pair = _elsewhere(root)
    (root / "sota" / "pkey.pem").symlink_to("../keys/pkey.pem")
    (root / "sota" / "client.pem").symlink_to("../keys/client.pem")
    return pair


def _a_link_elsewhere(root: Path) -> tuple[CredentialRef, CredentialRef]:
    old, new = _elsewhere(root)
    (root / "etc").mkdir()
    link = keystores.pair(root / "etc")
    Path(link.key).symlink_to(old.key)
    Path(link.certificate).symlink_to("../keys/client.pem")
    return link, new


def _storage_is_a_link(root: Path) -> tuple[CredentialRef, CredentialRef]:
    (root / "sysroot").mkdir()
    (root / "sota").symlink_to("sysroot")
    return keystores.put(keystores.pair(root / "sota"), _OLD_KEY), _new_pair(root / "sota")


_SCENES: list[Scene] = [
    _as_registered,
    _rotated_before,
    _named_by_the_link,
    _elsewhere,
    _elsewhere_with_links,
    _a_link_elsewhere,
    _storage_is_a_link,
]


def _is_retired(root: Path, new: CredentialRef, stable: bool) -> None:
    """Nothing of the old pair is anywhere; the new one is; stable names, if any, lead to it."""
    storage = root / "sota"
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert sorted(
        os.path.realpath(path) for path in (new.key, new.certificate, root / "sota" / "neighbour")
    ) == sorted(os.path.realpath(path) for path in files)
    assert made.key_pem(keystores.KEY) == Path(new.key).read_bytes()
    assert b"untouched" == (storage / "neighbour").read_bytes()
    for name, path in (("pkey.pem", new.key), ("client.pem", new.certificate)):
        assert stable == os.path.lexists(storage / name)
        if stable:
            assert os.path.basename(path) == os.readlink(storage / name)
    links = [path for path in root.rglob("*") if path.is_symlink() and path != storage]
    assert 2 * stable == len(links)


class _PowerCutError(Exception):
    pass


class _CutDisk(LocalDisk):
    """Stops right before its n-th change."""

    def __init__(self, changes: int) -> None:
        self.left = changes

    def _change(self) -> None:
        if self.left == 0:
            raise _PowerCutError
        self.left -= 1

    def remove(self, path: str) -> None:
        self._change()
        super().remove(path)

    def link(self, path: str, target: str) -> None:
        self._change()
        super().link(path, target)


@pytest.mark.parametrize("scene", _SCENES, ids=lambda scene: scene.__name__.strip("_"))
def test_a_retired_pair_is_gone_wherever_it_was(tmp_path: Path, scene: Scene) -> None:
    """Names that fiotest and containers open lead to the new pair; none is made up."""
    old, new = scene(tmp_path)
    storage = tmp_path / "sota"
    (storage / "neighbour").write_bytes(b"untouched")
    stable = os.path.lexists(storage / "pkey.pem")

    keystores.store(storage).retire(old, new)

    _is_retired(tmp_path, new, stable)
    keystores.store(storage).retire(old, new)
    _is_retired(tmp_path, new, stable)


@pytest.mark.parametrize("scene", _SCENES, ids=lambda scene: scene.__name__.strip("_"))
@pytest.mark.parametrize("changes", range(8))
def test_a_retirement_that_was_cut_is_finished(tmp_path: Path, scene: Scene, changes: int) -> None:
    """After any of its changes; at every instant the new pair is whole."""
    old, new = scene(tmp_path)
    storage = tmp_path / "sota"
    (storage / "neighbour").write_bytes(b"untouched")
    stable = os.path.lexists(storage / "pkey.pem")
    disk = _CutDisk(changes)

    try:
        keystores.store(storage, disk).retire(old, new)
    except _PowerCutError:
        assert made.key_pem(keystores.KEY) == Path(new.key).read_bytes()
        assert Path(new.certificate).is_file()
    else:
        assert changes > 1

    keystores.store(storage).retire(old, new)
    _is_retired(tmp_path, new, stable)
