"""What programs did to a directory tree, out of strace's log of them.

Whatever touches the tree in a way that is not modelled raises: a gap would be
states that nobody looks at. What the log leads to is compared with the real
tree by ``check``, so a call that is missing from CALLS does not pass either.

Not looked at: times (fioconfig's Last-Modified is in one; losing it costs a
download) and owners (a change of owner raises).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.crash import strace
from tests.crash import tree as trees
from tests.crash.strace import Call, calls
from tests.crash.tree import (
    ROOT,
    Chmod,
    Directory,
    Enter,
    File,
    Inode,
    Mark,
    Operation,
    Remove,
    Rename,
    Symlink,
    Sync,
    SyncAll,
    Tree,
    Truncate,
    Write,
)

MARK: Final = b"MARK "


class NotUnderstoodError(Exception):
    """The log has something about the tree that is not modelled."""


@dataclass(slots=True)
class _Open:
    """An open file of the tree; its position is None where it cannot be known."""

    inode: Inode
    position: int | None
    append: bool


@dataclass
class Log:
    """The tree as the calls so far have left it, and how it came to that.

    Attributes:
        root: real path of the tree's directory.
        tree: to begin with, what was there before the first call.
        directory: where a process works until it says otherwise.
        operations: in the order of their ends.
    """

    root: str
    tree: Tree
    directory: str
    operations: list[Operation] = field(default_factory=list)
    _opened: dict[tuple[str, int], _Open] = field(default_factory=dict)
    _directories: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tree = dict(self.tree)
        self._next = max(self.tree) + 1

    def read(self, lines: Iterable[str]) -> Log:
        """Raises NotUnderstoodError."""
        for call in calls(lines):
            _CALLS[call.name](self, call)
        return self

    def check(self) -> Log:
        """Raises NotUnderstoodError where the operations do not lead to the real tree."""
        real = trees.read(self.root)
        if not trees.same(self.tree, real):
            raise NotUnderstoodError(
                f"the log does not explain {trees.difference(self.tree, real)}"
            )
        return self

    # --- where things are ---

    def _parts(self, call: Call, path: str, base: str | None = None) -> list[str] | None:
        """The names that lead to ``path`` from the root of the tree; None where it is outside."""
        own = self._directories.get(call.process, self.directory)
        path = re.sub(r"^/proc/self/cwd(?=/|$)", lambda _: own, path)
        whole = os.path.normpath(os.path.join(own if base is None else base, path))
        if whole == self.root:
            return []
        inside = whole.removeprefix(f"{self.root}/")
        return None if inside == whole else inside.split("/")

    def _find(self, parts: Iterable[str]) -> Inode | None:
        inode: Inode | None = ROOT
        for name in parts:
            node = None if inode is None else self.tree[inode]
            if isinstance(node, Symlink):
                raise NotUnderstoodError(f"a way through the link before {name}")
            inode = node.entries.get(name) if isinstance(node, Directory) else None
        return inode

    def _directory_of(self, parts: list[str]) -> tuple[Inode, str]:
        inode = self._find(parts[:-1]) if parts else None
        if inode is None:
            raise NotUnderstoodError(f"a change of {'/'.join(parts) or 'the root'}")
        return inode, parts[-1]

    def _named(self, call: Call, first: int) -> list[str] | None:
        """The path in argument ``first``; with the "at" calls, its directory stands before it."""
        base = None
        if call.name.endswith(("at", "at2")):
            base = strace.descriptor(call.arguments[first - 1])[1]
        return self._parts(call, os.fsdecode(strace.text(call.arguments[first])), base)

    def _file(self, call: Call) -> _Open | None:
        """The open file of the tree in the first argument; None for one that is elsewhere."""
        number, path = strace.descriptor(call.arguments[0])
        # By the path, because a number is used again, and closing is not in the log.
        if path is None or self._parts(call, path) is None:
            return None
        known = self._opened.get((call.process, number))
        if known is None:
            raise NotUnderstoodError(f"{call.name} of {path}, which this process did not open")
        return known

    def _add(self, operation: Operation) -> None:
        self.operations.append(operation)
        if not isinstance(operation, (Sync, SyncAll, Mark)):
            trees.apply(self.tree, operation)

    def _make(self, parts: list[str], node: trees.Node) -> Inode:
        directory, name = self._directory_of(parts)
        inode, self._next = self._next, self._next + 1
        self._add(Enter(directory, name, inode, node))
        return inode

    # --- calls ---

    def _open(self, call: Call) -> None:
        self._opened.pop((call.process, call.result), None)
        parts = None if call.path is None else self._parts(call, call.path)
        if parts is None:
            return
        arguments = call.arguments[1:] if call.name == "openat" else call.arguments
        flags = arguments[1].split("|")
        if "O_TMPFILE" in flags:
            raise NotUnderstoodError("a file without a name")
        inode = self._find(parts)
        if inode is None:
            inode = self._make(parts, File(b"", _mode(arguments[2])))
        elif "O_TRUNC" in flags:
            self._add(Truncate(inode, 0))
        # Reading moves the position too, and is not in the log.
        position = None if "O_RDWR" in flags else 0
        self._opened[call.process, call.result] = _Open(inode, position, "O_APPEND" in flags)

    def _write(self, call: Call) -> None:
        file = self._file(call)
        content = strace.text(call.arguments[1])[: call.result]
        if file is None:
            if content.startswith(MARK):
                self._add(Mark(json.loads(content.removeprefix(MARK))))
            return
        node = self.tree[file.inode]
        if call.name == "pwrite64":
            self._add(Write(file.inode, int(call.arguments[3]), content))
            return
        if file.append and isinstance(node, File):
            file.position = len(node.content)
        if file.position is None:
            raise NotUnderstoodError("write at a position that reading may have moved")
        self._add(Write(file.inode, file.position, content))
        file.position += len(content)

    def _seek(self, call: Call) -> None:
        if file := self._file(call):
            file.position = call.result

    def _truncate(self, call: Call) -> None:
        if file := self._file(call):
            self._add(Truncate(file.inode, int(call.arguments[1])))

    def _chmod(self, call: Call) -> None:
        if file := self._file(call):
            self._add(Chmod(file.inode, int(call.arguments[1], 8)))

    def _sync(self, call: Call) -> None:
        if file := self._file(call):
            self._add(Sync(file.inode))

    def _sync_all(self, call: Call) -> None:
        del call
        self._add(SyncAll())

    def _rename(self, call: Call) -> None:
        first, second = (0, 1) if call.name == "rename" else (1, 3)
        old, new = self._named(call, first), self._named(call, second)
        if old is None and new is None:
            return
        if old is None or new is None or old[:-1] != new[:-1]:
            raise NotUnderstoodError("a rename from one directory to another")
        if call.name == "renameat2" and call.arguments[4] not in ("0", "RENAME_NOREPLACE"):
            raise NotUnderstoodError(f"renameat2 {call.arguments[4]}")
        directory, name = self._directory_of(old)
        inode = self._find(old)
        if inode is None:
            raise NotUnderstoodError(f"a rename of {name}, which is not there")
        self._add(Rename(directory, name, new[-1], inode))

    def _remove(self, call: Call) -> None:
        parts = self._named(call, 1 if call.name == "unlinkat" else 0)
        if parts is not None:
            self._add(Remove(*self._directory_of(parts)))

    def _link(self, call: Call) -> None:
        first, second = (0, 1) if call.name == "link" else (1, 3)
        old, new = self._named(call, first), self._named(call, second)
        if new is None:
            return
        inode = None if old is None else self._find(old)
        if inode is None or call.arguments[4:] not in ([], ["0"]):
            raise NotUnderstoodError("a link to something else than a file of the tree")
        directory, name = self._directory_of(new)
        self._add(Enter(directory, name, inode, None))

    def _symlink(self, call: Call) -> None:
        parts = self._named(call, 2 if call.name == "symlinkat" else 1)
        if parts is not None:
            self._make(parts, Symlink(os.fsdecode(strace.text(call.arguments[0]))))

    def _make_directory(self, call: Call) -> None:
        parts = self._named(call, 1 if call.name == "mkdirat" else 0)
        if parts is not None:
            self._make(parts, Directory({}, _mode(call.arguments[-1])))

    def _change_directory(self, call: Call) -> None:
        path = os.fsdecode(strace.text(call.arguments[0]))
        before = self._directories.get(call.process, self.directory)
        self._directories[call.process] = os.path.normpath(os.path.join(before, path))

    def _map(self, call: Call) -> None:
        _, _, protection, flags, descriptor, *_ = call.arguments
        if "PROT_WRITE" in protection and "MAP_SHARED" in flags:
            self._refuse_inside(call, [descriptor])

    def _duplicate(self, call: Call) -> None:
        if call.name != "fcntl" or call.arguments[1].startswith("F_DUPFD"):
            self._refuse(call)

    def _control(self, call: Call) -> None:
        if call.arguments[1] != "TCGETS":  # isatty(), which open() asks
            self._refuse(call)

    def _refuse(self, call: Call) -> None:
        self._refuse_inside(call, call.arguments)

    def _refuse_inside(self, call: Call, arguments: Iterable[str]) -> None:
        for argument in arguments:
            path = strace.path(argument)
            if path is not None and self._parts(call, path) is not None:
                raise NotUnderstoodError(f"{call.name} of {path}")

    def _refuse_always(self, call: Call) -> None:
        raise NotUnderstoodError(call.name)


_UNDERSTOOD: Final[Mapping[Callable[[Log, Call], None], str]] = {
    Log._open: "open openat",
    Log._write: "write pwrite64",
    Log._seek: "lseek",
    Log._truncate: "ftruncate",
    Log._chmod: "fchmod",
    Log._sync: "fsync",
    Log._sync_all: "sync syncfs",
    Log._rename: "rename renameat renameat2",
    Log._remove: "unlink unlinkat rmdir",
    Log._link: "link linkat",
    Log._symlink: "symlink symlinkat",
    Log._make_directory: "mkdir mkdirat",
    Log._change_directory: "chdir",
    Log._map: "mmap",
    Log._duplicate: "dup dup2 dup3 fcntl",
    Log._control: "ioctl",
    Log._refuse: "creat truncate chmod fchmodat chown lchown fchown fchownat mknod mknodat "
    "fdatasync sync_file_range fallocate writev pwritev pwritev2 sendfile copy_file_range "
    "splice setxattr lsetxattr fsetxattr",
    Log._refuse_always: "io_uring_setup fchdir open_by_handle_at openat2",
}
_CALLS: Final = {name: act for act, names in _UNDERSTOOD.items() for name in names.split()}
# For strace: these calls and no others.
OPTIONS: Final = (*strace.OPTIONS, "-e", f"trace={','.join(_CALLS)}")


def _mode(argument: str) -> int:
    mode = int(argument, 8)
    if mode & 0o077:
        raise NotUnderstoodError(f"mode {mode:04o}, of which the umask takes some")
    return mode
