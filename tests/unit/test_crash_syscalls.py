"""Reading strace's log, and being sure that a fault happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.syscalls import KILL, Fault, InjectionError, Point, TokenLostError, points

DEVICE = Path("/lab/device-1")
# strace -f -y -s 0, shortened.
LOG = """\
41 openat(AT_FDCWD</top>, "/lab/device-1/a", O_RDONLY|O_CLOEXEC) = 3</lab/device-1/a>
41 openat(AT_FDCWD</top>, "/lab/device-1/.a.tmp", O_WRONLY|O_CREAT|O_EXCL, 0600) = 3</lab/x>
41 write(3</lab/device-1/.a.tmp>, ""..., 850) = 850
41 write(1<pipe:[7]>, ""..., 10) = 10
41 fsync(3</lab/device-1/.a.tmp>) = 0
41 rename("/lab/device-1/.a.tmp", "/lab/device-1/a") = 0
41 openat(AT_FDCWD</top>, "/lab/device-1", O_RDONLY|O_DIRECTORY) = 3</lab/device-1>
41 openat(AT_FDCWD</top>, "/lab/device-1/sub", O_RDONLY|O_DIRECTORY) = 3</lab/device-1/sub>
41 fsync(3</lab/device-1/sub>) = 0
42 openat(AT_FDCWD</top>, "/lab/device-12/a", O_WRONLY|O_APPEND) = 4</lab/device-12/a>
41 symlink("target", "/lab/device-1/link") = 0
41 openat(AT_FDCWD</top>, "/lab/device-1/a", O_WRONLY|O_APPEND) = 4</lab/device-1/a>
41 fsync(3</lab/device-1/sub> <unfinished ...>
41 <... fsync resumed>) = 0
41 +++ exited with 0 +++
"""


def test_calls_below_the_device_are_found_and_counted() -> None:
    """As strace -P counts them: by name and path, reading calls too."""
    assert list(points(LOG, DEVICE)) == [
        Point("openat", "a", 1, changes=False),
        Point("openat", ".a.tmp", 1, changes=True),
        Point("write", ".a.tmp", 1, changes=True),
        Point("fsync", ".a.tmp", 1, changes=True),
        Point("rename", ".a.tmp", 1, changes=True),
        Point("openat", "sub", 1, changes=False),
        Point("fsync", "sub", 1, changes=True),
        Point("symlink", "link", 1, changes=True),
        Point("openat", "a", 2, changes=True),
        Point("fsync", "sub", 2, changes=True),
    ]


TOKEN = "/lab/device-1/token/tokens/7b0c9c3e-0b2d-4a3c-9f00-3f1e2d4c5b6a"
STORE = f"""\
41 write(1<pipe:[7]>, ""..., 10) = 10
41 write(6<{TOKEN}/0e1f2a3b-4c5d-6e7f-8091-a2b3c4d5e6f7.object>, ""..., 8) = 8
42 write(5<socket:[8]>, ""..., 10) = 10
41 write(6<{TOKEN}/token.object>, ""..., 320) = 320
41 write(6<{TOKEN}/generation>, ""..., 8) = 8
"""


def test_files_with_names_made_by_chance_are_counted_by_the_call_alone() -> None:
    """As strace counts where it is given no path: each thread by itself.

    The token's own record is left out.
    """
    assert list(points(STORE, DEVICE)) == [
        Point("write", "", 2, changes=True),
        Point("write", "", 4, changes=True),
    ]
    assert str(Fault(Point("write", "", 4, changes=True), KILL)) == (
        "-e inject=write:signal=KILL:when=4"
    )


FSYNC = Point("fsync", "a", 2, changes=True)
ONCE = "41 fsync(5)  = 0\n"


def test_a_kill_is_believed_where_the_call_is_the_last() -> None:
    """The exit status is that of strace, which dies the same death."""
    killed = f"{ONCE}41 fsync(5)  = ?\n41 +++ killed by SIGKILL +++\n"

    Fault(FSYNC, KILL).require_done(-9, killed)


@pytest.mark.parametrize(
    ("code", "log"),
    [
        (0, f"{ONCE}{ONCE}41 +++ exited with 0 +++\n"),
        (0, f"{ONCE}41 fsync(5)  = ?\n41 +++ killed by SIGKILL +++\n"),
        (-9, f"{ONCE}41 +++ killed by SIGKILL +++\n"),
        (-9, f"{ONCE}41 write(5)  = ?\n41 +++ killed by SIGKILL +++\n"),
        (-9, ""),
    ],
    ids=["ignored", "wrong status", "too early", "other call", "no log"],
)
def test_a_kill_that_did_not_happen_is_told(code: int, log: str) -> None:
    """With --seccomp-bpf strace 6.1 ignores signals, without a word."""
    with pytest.raises(InjectionError, match="it did not happen"):
        Fault(FSYNC, KILL).require_done(code, log)


@pytest.mark.parametrize("end", ["killed", "refused"])
def test_what_befell_the_record_of_the_token_is_no_trial(end: str) -> None:
    """Names by chance are counted by the call alone, and SoftHSM's calls are not always as many."""
    writing = "41 write(5</dev/shm/token/0a/token.object>, ..., 8)"
    what, code, log = {
        "killed": (KILL, -9, f"{writing} <unfinished ...>\n41 +++ killed by SIGKILL +++\n"),
        "refused": ("error=EIO", 78, f"{writing} = -1 EIO (Input/output error) (INJECTED)\n"),
    }[end]
    before = "41 write(3</dev/shm/token/0a/1b.object>, ..., 8) = 8\n"

    with pytest.raises(TokenLostError):
        Fault(Point("write", "", 2, changes=True), what).require_done(code, before + log)
    Fault(Point("write", "a", 2, changes=True), what).require_done(code, before + log)
    first = Fault(Point("write", "", 1, changes=True), "error=EIO")
    first.require_done(78, f"{before.strip()} (INJECTED)\n{writing} = 8\n")


def test_a_refusal_is_believed_once() -> None:
    """The process goes on after it, and may call again."""
    refused = "41 fsync(5) = -1 EIO (Input/output error) (INJECTED)\n"
    fault = Fault(FSYNC, "error=EIO")

    fault.require_done(78, f"{ONCE}{refused}{ONCE}")
    for log in (f"{ONCE}{ONCE}", refused, f"{ONCE}{refused}{refused}"):
        with pytest.raises(InjectionError):
            fault.require_done(78, log)


def test_a_fault_is_told_as_strace_wants_it() -> None:
    """So that a person can repeat it."""
    assert str(Fault(FSYNC, KILL)) == "-P a -e inject=fsync:signal=KILL:when=2"
