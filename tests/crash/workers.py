"""Work shared among forked processes, with everything loaded and made before the fork."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

_inherited: Final[list[Any]] = []  # in a worker: the function, then its tasks


def shared(
    function: Callable[[Task], Result], tasks: Iterable[Task], jobs: int
) -> Iterator[Result]:
    """``function`` of each task, in any order; in this process where ``jobs`` is 1.

    Tasks are inherited by the fork, so that they may hold what cannot be pickled.
    """
    every = list(tasks)
    if jobs <= 1:
        for task in every:
            yield function(task)
        return
    context = multiprocessing.get_context("fork")
    with context.Pool(jobs, initializer=_inherit, initargs=(function, *every)) as pool:
        yield from pool.imap_unordered(_of_number, range(1, len(every) + 1))


def _inherit(*what: Any) -> None:
    _inherited[:] = what


def _of_number(number: int) -> Any:
    return _inherited[0](_inherited[number])
