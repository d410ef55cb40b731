"""Operations on a tree in words, with the names that their inodes have."""

from __future__ import annotations

from typing import TypeAlias

from tests.crash.tree import (
    ROOT,
    Chmod,
    Directory,
    Enter,
    Inode,
    Mark,
    Operation,
    Remove,
    Rename,
    Sync,
    SyncAll,
    Tree,
    Truncate,
    Write,
)

Names: TypeAlias = "dict[Inode, str]"


def names(tree: Tree) -> Names:
    """Where each inode is; of several names, the last one."""
    found: Names = {}
    _name(tree, ROOT, "", found)
    return found


def _name(tree: Tree, inode: Inode, place: str, found: Names) -> None:
    node, found[inode] = tree[inode], place
    if isinstance(node, Directory):
        for name, each in node.entries.items():
            _name(tree, each, f"{place}/{name}" if place else name, found)


def follow(known: Names, operation: Operation) -> None:
    """The names after ``operation``, whatever becomes of it on a disk."""
    if isinstance(operation, Enter):
        known[operation.inode] = _inside(known, operation.directory, operation.name)
    elif isinstance(operation, Rename):
        known[operation.inode] = _inside(known, operation.directory, operation.new)


def _inside(known: Names, directory: Inode, name: str) -> str:
    return f"{known[directory]}/{name}" if known[directory] else name


def describe(operation: Operation, known: Names) -> str:
    """A few words for a person; ``known`` are the names at any time after it."""
    match operation:
        case Enter() | Rename() | Remove():
            return _describe_name(operation, known)
        case Write():
            size = len(operation.content)
            return f"write {known[operation.inode]} at {operation.offset}, {size} bytes"
        case Truncate():
            return f"truncate {known[operation.inode]} to {operation.size}"
        case Chmod():
            return f"chmod {known[operation.inode]} {operation.mode:04o}"
        case Sync():
            return f"fsync {known[operation.inode] or '.'}"
        case SyncAll() | Mark():
            return type(operation).__name__.lower()


def _describe_name(change: Enter | Rename | Remove, known: Names) -> str:
    match change:
        case Enter():
            verb = "link" if change.made is None else f"make {type(change.made).__name__.lower()}"
            return f"{verb} {_inside(known, change.directory, change.name)}"
        case Rename():
            return f"rename {_inside(known, change.directory, change.old)} to {change.new}"
        case Remove():
            return f"remove {_inside(known, change.directory, change.name)}"
