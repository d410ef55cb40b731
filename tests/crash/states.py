"""Every disk that a power cut may leave behind a series of operations.

After each operation the power may fail. What is on the disk then is what has
been made durable, and a choice of what has not: each model is a set of choices.

kill    no power cut: the process dies, and what it has done stays.
ext4    data=ordered. Names, modes and sizes are lost from the end only, and
        every fsync keeps all that came before it. Written data is there or not.
        That a rename flushes what it renames (auto_da_alloc) is not relied on.
strict  what POSIX promises and no more. fsync of a file keeps its data and mode,
        fsync of a directory its names; each other operation is kept or lost by
        itself; written data may also be zeros, or torn: before its last byte, in
        the middle, at a sector.

Where a point has more choices than ``bound``, taken are: everything up to each
operation and nothing after it, all and nothing with one deviation, and as many as
``bound`` by a seeded draw. Pure, and the same states in the same order each time.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from tests.crash import told
from tests.crash import tree as trees
from tests.crash.tree import (
    Change,
    Mark,
    Operation,
    Sync,
    SyncAll,
    Tree,
    Truncate,
    Write,
    apply,
    bear,
    holder,
)

MODELS: Final = ("kill", "ext4", "strict")
SECTOR: Final = 512  # bytes, the least that storage writes as a whole
BOUND: Final = 1024  # choices at one point

# What becomes of one pending operation: its place among them, and what of it happens.
Fate: TypeAlias = "tuple[tuple[int, Change], ...]"
# Fates of which exactly one comes true; the first is the loss, the last is all of it.
Choice: TypeAlias = "Sequence[Fate]"


@dataclass(frozen=True, slots=True)
class State:
    """A disk after a power cut.

    Attributes:
        model: that allows it.
        point: operations that were done.
        number: among the states of its point.
        tree: what is on the disk.
        mark: what was visible outside by then; "" where nothing was.
        lost: what is missing or torn.
    """

    model: str
    point: int
    number: int
    tree: Tree
    mark: str
    lost: tuple[str, ...]

    def digest(self) -> bytes:
        """Of the disk and of what was visible outside."""
        return _digest(self.tree, self.mark)

    def where(self) -> str:
        """For a person who wants to see it again."""
        lost = f" without {', '.join(self.lost)}" if self.lost else ""
        return f"{self.model}: cut after operation {self.point}, state {self.number}{lost}"


@dataclass(slots=True)
class Counts:
    """``bounded`` points had too many choices to take them all."""

    bounded: int = 0


@dataclass(slots=True)
class _Disk:
    """What is durable, and what is not yet, in order."""

    model: str
    durable: Tree
    pending: list[Change] = field(default_factory=list)

    def take(self, operation: Operation) -> None:
        match operation:
            case Mark():
                pass
            case SyncAll():
                self._harden(range(len(self.pending)))
            case Sync():
                self._harden(self._kept_by(operation))
            case _ if self.model == "kill":
                apply(self.durable, operation)
            case _:
                bear(self.durable, operation)
                self.pending.append(operation)

    def _kept_by(self, sync: Sync) -> Iterable[int]:
        """Places of what ``sync`` makes durable."""
        truncated: set[int] = set()
        for place, change in reversed(list(enumerate(self.pending))):
            journalled = self.model == "ext4" and not isinstance(change, Write)
            # Data that was cut off afterwards is not written behind the cut.
            if journalled or holder(change) in {sync.inode, *truncated}:
                yield place
            if self.model == "ext4" and isinstance(change, Truncate):
                truncated.add(change.inode)

    def _harden(self, places: Iterable[int]) -> None:
        kept = set(places)
        for place, change in enumerate(self.pending):
            if place in kept:
                apply(self.durable, change)
        self.pending = [each for place, each in enumerate(self.pending) if place not in kept]

    def choices(self) -> list[Choice]:
        """Independent of each other."""
        changes = list(enumerate(self.pending))
        if self.model == "strict":
            return [_strict_fates(place, change) for place, change in changes]
        journal = [each for each in changes if not isinstance(each[1], Write)]
        prefixes = [tuple(journal[:length]) for length in range(len(journal) + 1)]
        return [prefixes, *([(), (each,)] for each in changes if isinstance(each[1], Write))]


def states(
    start: Tree,
    operations: Sequence[Operation],
    model: str,
    *,
    mark: str = "",
    first: int = 0,
    bound: int = BOUND,
    seed: int = 1,
    counts: Counts | None = None,
    seen: set[bytes] | None = None,
) -> Iterator[State]:
    """Each state of each point, but for those whose digests are in ``seen``, which grows.

    ``mark`` is what was visible before the first operation; points before ``first``
    are left out.
    """
    disk, counts = _Disk(model, dict(start)), counts or Counts()
    names = told.names(start)
    for point, operation in enumerate([None, *operations]):
        if operation is not None:
            disk.take(operation)
            told.follow(names, operation)
        if isinstance(operation, Mark):
            mark = operation.text
        if point < first:
            continue
        choices = disk.choices()
        counts.bounded += math.prod(map(len, choices)) > bound
        for number, fates in enumerate(_combinations(choices, bound, f"{seed} {model} {point}")):
            tree = dict(disk.durable)
            for _, change in sorted(itertools.chain.from_iterable(fates), key=_place):
                apply(tree, change)
            if seen is not None and not _is_new(tree, mark, seen):
                continue
            lost = tuple(_lost(disk.pending, fates, names))
            yield State(model, point, number, tree, mark, lost)


def _is_new(tree: Tree, mark: str, seen: set[bytes]) -> bool:
    digest = _digest(tree, mark)
    if digest in seen:
        return False
    seen.add(digest)
    return True


def _digest(tree: Tree, mark: str) -> bytes:
    """Of the disk and of what was visible outside."""
    return hashlib.blake2b(trees.digest(tree) + mark.encode(), digest_size=16).digest()


def _place(fate: tuple[int, Change]) -> int:
    return fate[0]


def _strict_fates(place: int, change: Change) -> Choice:
    parts = _torn(change) if isinstance(change, Write) else []
    return [(), *(((place, part),) for part in parts), ((place, change),)]


def _torn(write: Write) -> list[Write]:
    """What may be there instead: zeros; all but the last byte; one side of the middle, of a sector.

    The side that is missing is zeros, or, at the end, not there at all.
    """
    whole, size = write.content, len(write.content)
    first = SECTOR - write.offset % SECTOR
    sectors = range(first, size, SECTOR)
    contents = [b"\0" * size, whole[:-1]]
    for at in sorted({size // 2, *sectors}):
        head, tail = whole[:at], whole[at:]
        contents += [head, head + b"\0" * len(tail), b"\0" * len(head) + tail]
    different = dict.fromkeys(each for each in contents if each not in (b"", whole))
    return [Write(write.inode, write.offset, content) for content in different]


def _combinations(choices: Sequence[Choice], bound: int, seed: str) -> Iterator[tuple[Fate, ...]]:
    if math.prod(map(len, choices)) <= bound:
        return itertools.product(*choices)
    return _bounded(choices, bound, random.Random(seed))  # noqa: S311  # a draw, not a secret


def _bounded(
    choices: Sequence[Choice], bound: int, draw: random.Random
) -> Iterator[tuple[Fate, ...]]:
    nothing, everything = [each[0] for each in choices], [each[-1] for each in choices]
    for length in range(len(choices) + 1):
        yield tuple(everything[:length] + nothing[length:])
    for usual in (nothing, everything):
        for place, choice in enumerate(choices):
            for fate in choice:
                yield (*usual[:place], fate, *usual[place + 1 :])
    for _ in range(bound):
        yield tuple(draw.choice(each) for each in choices)


def _lost(pending: Sequence[Change], fates: Iterable[Fate], names: told.Names) -> Iterator[str]:
    happened = dict(itertools.chain.from_iterable(fates))
    for place, change in enumerate(pending):
        part = happened.get(place)
        if part is None:
            yield told.describe(change, names)
        elif part != change and isinstance(part, Write):
            kept = f"{len(part.content)} bytes, {part.content.count(0)} of them zero"
            yield f"a part of {told.describe(change, names)}, which became {kept}"
