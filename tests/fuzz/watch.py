"""Runs a reader on one input, and holds what it may take and what it may say."""

from __future__ import annotations

import contextlib
import gc
import signal
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Final

from fioagent.errors import MAX_LINE, AgentError

CPU_S: Final = (
    10.0  # of this process; a reader takes milliseconds, a checker of coverage much longer
)
MEMORY: Final = 8 * 1024 * 1024  # bytes, and so many times the input:
MEMORY_FACTOR: Final = 200
GROWTH: Final = 256 * 1024  # bytes that may stay behind after many inputs: caches of libraries
ROUNDS: Final = 20


@dataclass(frozen=True, slots=True)
class Target:
    """One reader.

    Attributes:
        name: as on the command line, and of the directory of its seeds.
        read: reads one input; what it promises of a result is asserted in it.
        errors: what it may raise.
    """

    name: str
    read: Callable[[bytes], None]
    errors: tuple[type[Exception], ...]


class FindingError(Exception):
    """A reader did what it must not.

    Attributes:
        data: the input.
    """

    def __init__(self, target: Target, data: bytes, why: str) -> None:
        super().__init__(f"{target.name}: {why}; input: {data[:200]!r}")
        self.data = data


class _HangError(BaseException):
    """Out of time; no reader catches it."""


def check(target: Target, data: bytes, cpu_s: float = CPU_S) -> None:
    """Raises FindingError."""
    with _traced():
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        _read(target, data, cpu_s)
        took = tracemalloc.get_traced_memory()[1] - before
    if took > MEMORY + MEMORY_FACTOR * len(data):
        raise FindingError(target, data, f"{took} bytes of memory for {len(data)}")


@contextlib.contextmanager
def _traced() -> Iterator[None]:
    """Only around what is watched: what makes the inputs would be slowed down too."""
    if tracemalloc.is_tracing():
        yield
        return
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def _read(target: Target, data: bytes, cpu_s: float) -> None:
    previous = signal.signal(signal.SIGVTALRM, _out_of_time)
    signal.setitimer(signal.ITIMER_VIRTUAL, cpu_s)
    try:
        target.read(data)
    except target.errors as error:
        _check_words(target, data, error)
    except _HangError:
        raise FindingError(target, data, f"more than {cpu_s} s") from None
    except Exception as error:
        raise FindingError(target, data, f"{type(error).__name__}: {error}") from error
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)


def _out_of_time(_number: int, _frame: FrameType | None) -> None:
    raise _HangError


def _check_words(target: Target, data: bytes, error: Exception) -> None:
    """One printable line that a person can read; plain ValueErrors become part of one."""
    if not isinstance(error, AgentError):
        return
    said = str(error)
    if not (said.startswith("cannot ") and said.isprintable() and len(said) <= MAX_LINE):
        raise FindingError(target, data, f"says {said!r}") from error


def check_nothing_stays(target: Target, seeds: Sequence[bytes]) -> None:
    """However often it reads, memory is what it was. Raises FindingError."""
    with _traced():
        _read_all(target, seeds)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(ROUNDS):
            _read_all(target, seeds)
        stayed = tracemalloc.get_traced_memory()[0] - before
    if stayed > GROWTH:
        raise FindingError(target, b"", f"{stayed} bytes stay behind after {ROUNDS} rounds")


def _read_all(target: Target, seeds: Sequence[bytes]) -> None:
    for seed in seeds:
        check(target, seed)
    gc.collect()
