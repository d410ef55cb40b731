"""A directory tree as a value, and the operations that change one.

Names lead to inodes, as on a disk: that is what lets a name be lost and its
file not, or the other way round. Owners and times are left out, because no
promise of ours rests on them; modes are in, because one does.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

Inode: TypeAlias = int
ROOT: Final = 0


@dataclass(frozen=True, slots=True)
class File:
    content: bytes
    mode: int


@dataclass(frozen=True, slots=True)
class Symlink:
    target: str


@dataclass(frozen=True, slots=True)
class Directory:
    entries: Mapping[str, Inode]
    mode: int


Node: TypeAlias = "File | Symlink | Directory"
Tree: TypeAlias = "dict[Inode, Node]"  # ROOT is there; an inode that no name leads to may be


@dataclass(frozen=True, slots=True)
class Enter:
    """A name leads to an inode; ``made`` is what a new one is at first."""

    directory: Inode
    name: str
    inode: Inode
    made: Node | None


@dataclass(frozen=True, slots=True)
class Rename:
    """Within one directory, over whatever was there."""

    directory: Inode
    old: str
    new: str
    inode: Inode


@dataclass(frozen=True, slots=True)
class Remove:
    directory: Inode
    name: str


@dataclass(frozen=True, slots=True)
class Write:
    inode: Inode
    offset: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    inode: Inode
    size: int


@dataclass(frozen=True, slots=True)
class Chmod:
    inode: Inode
    mode: int


@dataclass(frozen=True, slots=True)
class Sync:
    """fsync of a file or a directory."""

    inode: Inode


@dataclass(frozen=True, slots=True)
class SyncAll:
    pass


@dataclass(frozen=True, slots=True)
class Mark:
    """Something became visible outside the tree: an answer of a server, an exit status."""

    text: str


Change: TypeAlias = "Enter | Rename | Remove | Write | Truncate | Chmod"
Operation: TypeAlias = "Change | Sync | SyncAll | Mark"


def holder(change: Change) -> Inode:
    """The file or directory whose fsync makes ``change`` durable."""
    if isinstance(change, (Enter, Rename, Remove)):
        return change.directory
    return change.inode


def bear(tree: Tree, change: Change) -> None:
    """The inode that ``change`` makes exists, with no name for it yet."""
    if isinstance(change, Enter) and change.made is not None:
        tree.setdefault(change.inode, change.made)


def apply(tree: Tree, change: Change) -> None:
    """``tree`` after ``change``, whatever of the changes before it has been lost."""
    bear(tree, change)
    node = tree[holder(change)]
    if isinstance(node, Directory):
        tree[holder(change)] = replace(node, entries=_entered(dict(node.entries), change))
    elif isinstance(node, File):
        tree[holder(change)] = _changed(node, change)


def _entered(entries: dict[str, Inode], change: Change) -> dict[str, Inode]:
    match change:
        case Enter():
            entries[change.name] = change.inode
        case Rename():
            entries.pop(change.old, None)  # atomic: the old name is gone where the new one is there
            entries[change.new] = change.inode
        case Remove():
            entries.pop(change.name, None)
        case _:
            raise AssertionError(f"{change} of a directory")
    return entries


def _changed(file: File, change: Change) -> File:
    match change:
        case Write():
            before = file.content[: change.offset].ljust(change.offset, b"\0")
            after = file.content[change.offset + len(change.content) :]
            return replace(file, content=before + change.content + after)
        case Truncate():
            return replace(file, content=file.content[: change.size].ljust(change.size, b"\0"))
        case Chmod():
            return replace(file, mode=change.mode)
        case _:
            raise AssertionError(f"{change} of a file")


def listing(tree: Tree, inode: Inode = ROOT, place: str = "") -> Iterator[tuple[str, Node]]:
    """What can be reached by a name, parents first, in the order of the names."""
    node = tree[inode]
    yield place, node
    if isinstance(node, Directory):
        for name in sorted(node.entries):
            yield from listing(tree, node.entries[name], f"{place}/{name}" if place else name)


def digest(tree: Tree) -> bytes:
    """Equal where a program that looks at the tree cannot tell the difference."""
    return _digest(tree, tree[ROOT])


def _digest(tree: Tree, node: Node) -> bytes:
    if not isinstance(node, Directory):
        return _leaf_digest(node)
    below = [(name, _digest(tree, tree[node.entries[name]])) for name in sorted(node.entries)]
    return hashlib.blake2b(repr((node.mode, below)).encode(), digest_size=16).digest()


@functools.lru_cache(maxsize=8192)  # the same few files stand in thousands of trees
def _leaf_digest(node: File | Symlink) -> bytes:
    return hashlib.blake2b(repr(node).encode(), digest_size=16).digest()


def same(one: Tree, other: Tree) -> bool:
    return list(_shown(one)) == list(_shown(other))


def difference(one: Tree, other: Tree) -> str:
    """What to tell a person where the two are not the same."""
    ones, others = dict(_shown(one)), dict(_shown(other))
    differing = [path for path in {**ones, **others} if ones.get(path) != others.get(path)]
    return ", ".join(sorted(path or "." for path in differing))


def _shown(tree: Tree) -> Iterator[tuple[str, object]]:
    for path, node in listing(tree):
        yield path, node.mode if isinstance(node, Directory) else node


def read(directory: str) -> Tree:
    """The real tree at ``directory``. A file with two names is two files here."""
    tree: Tree = {}
    _read(directory, tree)
    return tree


def _read(path: str, tree: Tree) -> Inode:
    inode = len(tree)
    status = os.lstat(path)
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        tree[inode] = Symlink(os.readlink(path))
    elif stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            tree[inode] = File(file.read(), mode)
    elif stat.S_ISDIR(status.st_mode):
        tree[inode] = Directory({}, mode)
        names = sorted(os.listdir(path))
        entries = {name: _read(os.path.join(path, name), tree) for name in names}
        tree[inode] = Directory(entries, mode)
    else:
        raise ValueError(f"{path} is no file, link or directory")
    return inode


def write(tree: Tree, directory: str) -> None:
    """``directory`` is made, and is the tree."""
    for place, node in listing(tree):
        path = os.path.join(directory, place) if place else directory
        match node:
            case File():
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                os.write(descriptor, node.content)
                os.fchmod(descriptor, node.mode)
                os.close(descriptor)
            case Symlink():
                os.symlink(node.target, path)
            case Directory():
                os.mkdir(path)
                os.chmod(path, node.mode)
