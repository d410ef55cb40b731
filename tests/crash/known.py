"""Which shapes have been booted from, known to all processes that work on a scenario."""

from __future__ import annotations

import hashlib
import mmap
import os
from typing import Final

_BYTES: Final = 1 << 22  # of bits: for 25,000 shapes one in 1,300 is taken for another


class Known:
    """A file of bits that each process has mapped. What is in doubt counts as known.

    Two processes that add to the same byte at once may lose one: it is booted from twice.
    """

    def __init__(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(descriptor, _BYTES)
        self._bits = mmap.mmap(descriptor, _BYTES)
        os.close(descriptor)

    def add(self, shape: bytes) -> bool:
        """Whether it is new."""
        number = int.from_bytes(hashlib.blake2b(shape, digest_size=8).digest(), "big")
        place, bit = number // 8 % _BYTES, 1 << number % 8
        new = not self._bits[place] & bit
        self._bits[place] |= bit
        return new
