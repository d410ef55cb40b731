"""Work shared among forked processes, with everything loaded and made before the fork."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def shared(
    function: Callable[[Task], Result], tasks: Iterable[Task], jobs: int
) -> Iterator[Result]:
    """``function`` of each task, in any order; in this process where ``jobs`` is 1."""
    if jobs <= 1:
        for task in tasks:
            yield function(task)
        return
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from pool.imap_unordered(function, tasks)
