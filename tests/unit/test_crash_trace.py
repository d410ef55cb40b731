"""What a program does to a tree is read from its system calls: all of it, or an error."""

from __future__ import annotations

import mmap
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.crash import strace
from tests.crash import tree as trees
from tests.crash.recorder import JobError, Recorder, recording
from tests.crash.trace import NotUnderstoodError
from tests.crash.tree import (
    ROOT,
    Chmod,
    Directory,
    Enter,
    File,
    Mark,
    Remove,
    Rename,
    Symlink,
    Sync,
    SyncAll,
    Truncate,
    Write,
)

Note = Callable[[str], None]


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    if shutil.which("strace") is None:
        needs.missing("cannot run without strace")
    with recording() as made:
        yield made


@pytest.fixture
def place(tmp_path: Path) -> str:
    made = tmp_path / "an odd, <name> (of) \u00fc"
    made.mkdir(mode=0o700)
    (made / "there").write_bytes(b"12345")
    return str(made)


def everything(note: Note) -> str:
    descriptor = os.open("/proc/self/cwd/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.fchmod(descriptor, 0o640)
    os.write(descriptor, b'a "quoted", \0 text\n')
    os.fsync(descriptor)
    os.close(descriptor)
    note("half, of = it")
    os.mkdir("inside", 0o700)
    os.symlink("../there", "inside/link")
    os.link("there", "second")
    os.replace(os.path.abspath("new"), "newest")
    os.unlink("second")
    descriptor = os.open("there", os.O_RDWR)
    os.ftruncate(descriptor, 2)
    os.pwrite(descriptor, b"x", 1)
    os.close(descriptor)
    descriptor = os.open("there", os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, b"end")
    os.close(descriptor)
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)
    os.sync()
    return "done"


def test_every_operation_is_seen_in_order(recorder: Recorder, place: str) -> None:
    """Whatever the names are, and however the program spells them."""
    record = recorder.record(place, everything)

    assert record.result == "done"
    assert list(record.operations) == [
        Enter(ROOT, "new", 2, File(b"", 0o600)),
        Chmod(2, 0o640),
        Write(2, 0, b'a "quoted", \0 text\n'),
        Sync(2),
        Mark("half, of = it"),
        Enter(ROOT, "inside", 3, Directory({}, 0o700)),
        Enter(3, "link", 4, Symlink("../there")),
        Enter(ROOT, "second", 1, None),
        Rename(ROOT, "new", "newest", 2),
        Remove(ROOT, "second"),
        Truncate(1, 2),
        Write(1, 1, b"x"),
        Write(1, 2, b"end"),
        Sync(ROOT),
        SyncAll(),
    ]


def map_shared(note: Note) -> None:
    descriptor = os.open("there", os.O_RDWR)
    with mmap.mmap(descriptor, 5) as mapped:
        mapped[0] = 0


def move_elsewhere(note: Note) -> None:
    os.mkdir("inside", 0o700)
    os.rename("there", "inside/there")


def copy_descriptor(note: Note) -> None:
    os.dup(os.open("there", os.O_RDONLY))


def copy_range(note: Note) -> None:
    source = os.open("there", os.O_RDONLY)
    os.copy_file_range(source, os.open("other", os.O_WRONLY | os.O_CREAT, 0o600), 5)


def write_after_reading(note: Note) -> None:
    descriptor = os.open("there", os.O_RDWR)
    os.read(descriptor, 2)
    os.write(descriptor, b"x")


def write_from_a_thread(note: Note) -> None:
    descriptor = os.open("there", os.O_WRONLY)
    thread = threading.Thread(target=os.write, args=(descriptor, b"x"))
    thread.start()
    thread.join()


def gather(note: Note) -> None:
    os.writev(os.open("there", os.O_WRONLY), [b"a", b"b"])


def change_owner(note: Note) -> None:
    os.chown("there", os.getuid(), os.getgid())


def leave_the_mode_to_the_umask(note: Note) -> None:
    os.close(os.open("new", os.O_WRONLY | os.O_CREAT, 0o666))


@pytest.mark.parametrize(
    "job",
    [
        map_shared,
        move_elsewhere,
        copy_descriptor,
        copy_range,
        write_after_reading,
        write_from_a_thread,
        gather,
        change_owner,
        leave_the_mode_to_the_umask,
    ],
)
def test_what_is_not_modelled_is_an_error(
    recorder: Recorder, place: str, job: Callable[[Note], None]
) -> None:
    """Else there would be states that nobody looks at."""
    with pytest.raises(NotUnderstoodError):
        recorder.record(place, job)


def read_only(note: Note) -> None:
    os.dup(os.open("/dev/null", os.O_RDONLY))
    with open("there", "rb") as file:
        file.read()
    os.stat("there")


def test_looking_is_no_operation(recorder: Recorder, place: str) -> None:
    """Nor is what happens elsewhere."""
    assert recorder.record(place, read_only).operations == ()


def fail(note: Note) -> None:
    raise RuntimeError("of the job")


def die(note: Note) -> None:
    os.abort()


@pytest.mark.parametrize(("job", "words"), [(fail, "of the job"), (die, "ended with")])
def test_a_job_that_fails_is_told_and_the_next_one_runs(
    recorder: Recorder, place: str, job: Callable[[Note], None], words: str
) -> None:
    """One bad state must not end a proof of thousands."""
    with pytest.raises(JobError, match=words):
        recorder.record(place, job)

    assert recorder.record(place, everything).result == "done"


def test_what_the_log_does_not_explain_is_an_error(recorder: Recorder, place: str) -> None:
    """The last guard: the operations have to lead to the tree that is there."""
    log, _ = recorder._run(place, trees.read(place), everything, ())
    Path(place, "there").write_bytes(b"by somebody else")

    with pytest.raises(NotUnderstoodError, match="there"):
        log.check()


def test_a_tree_is_written_as_it_was_read(recorder: Recorder, place: str, tmp_path: Path) -> None:
    """Names, links, modes and content."""
    record = recorder.record(place, everything)
    tree = dict(record.start)
    for operation in record.operations:
        if not isinstance(operation, (Sync, SyncAll, Mark)):
            trees.apply(tree, operation)

    trees.write(tree, str(tmp_path / "copy"))

    assert trees.digest(trees.read(place)) == trees.digest(trees.read(str(tmp_path / "copy")))


def test_a_call_that_another_process_interrupted_is_whole_again() -> None:
    lines = ["7 fsync(3</x> <unfinished ...>", "8 close(4) = 0", "7 <... fsync resumed>) = 0"]

    assert [(call.process, call.name) for call in strace.calls(lines)] == [
        ("8", "close"),
        ("7", "fsync"),
    ]


def test_a_call_that_began_before_the_log_is_left_out() -> None:
    """Of the process that made the child: its fork may return after the child's first word."""
    lines = ["6 <... clone resumed>) = 7", "7 close(4) = 0"]

    assert [call.process for call in strace.calls(lines)] == ["7"]
