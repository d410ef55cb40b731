"""Work shared among forked processes, with everything loaded and made before the fork."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any, Final, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

_inherited: Final[list[Any]] = []  # in a worker: the function, then its tasks


def shared(
    function: Callable[[Task], Result], tasks: Iterable[Task], jobs: int
) -> Iterator[Result]:
    """``function`` of each task, in any order; in this process where ``jobs`` is 1.

    Tasks are inherited by the fork, so that they may hold what cannot be pickled.

    Raises:
        RuntimeError: this process has threads; a lock that one of them holds
            would stay held in the fork.
        BrokenProcessPool: a worker has died.
    """
    every = list(tasks)
    if jobs <= 1:
        for task in every:
            yield function(task)
        return
    if threading.active_count() > 1:
        raise RuntimeError("cannot fork workers: this process has threads")
    pool = ProcessPoolExecutor(
        jobs, get_context("fork"), initializer=_inherit, initargs=(function, *every)
    )
    try:
        for each in as_completed(
            [pool.submit(_of_number, number + 1) for number in range(len(every))]
        ):
            yield each.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _inherit(*what: Any) -> None:
    _inherited[:] = what


def _of_number(number: int) -> Any:
    return _inherited[0](_inherited[number])
