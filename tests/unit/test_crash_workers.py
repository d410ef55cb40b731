"""Work is shared among processes without a way to hang."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.crash.workers import shared

TOP = Path(__file__).resolve().parent.parent.parent


def in_a_process_without_threads(program: str) -> subprocess.CompletedProcess[str]:
    """This one has the threads of servers that other tests are served by."""
    return subprocess.run(
        [sys.executable, "-c", f"import os\nfrom tests.crash.workers import shared\n{program}"],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_every_task_is_done_once_and_not_here() -> None:
    ended = in_a_process_without_threads(
        "found = list(shared(lambda task: (task, os.getpid()), range(50), jobs=2))\n"
        "assert sorted(task for task, _ in found) == list(range(50)), found\n"
        "assert os.getpid() not in {process for _, process in found}"
    )

    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_worker_that_died_is_told() -> None:
    ended = in_a_process_without_threads("list(shared(os._exit, [3], jobs=2))")

    assert ended.returncode == 1
    assert "BrokenProcessPool" in ended.stderr


def test_an_error_of_a_task_is_told() -> None:
    ended = in_a_process_without_threads("list(shared(lambda task: 1 // task, [1, 0], jobs=2))")

    assert ended.returncode == 1
    assert "ZeroDivisionError" in ended.stderr


def test_a_process_with_threads_is_not_forked() -> None:
    """What hung once in a thousand runs is an error in each."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        with pytest.raises(RuntimeError, match="this process has threads"):
            list(shared(str, [1, 2], jobs=2))
    finally:
        stop.set()
        thread.join()


def test_one_job_needs_no_other_process() -> None:
    assert list(shared(str, [1, 2], jobs=1)) == ["1", "2"]
