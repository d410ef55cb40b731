"""Runs benchmarks by name; all of them without one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tests.bench import check_in, factory, fleet, resident
from tests.yocto import size

BENCHMARKS: Final[Mapping[str, Callable[[], None]]] = {
    "check-in": check_in.main,
    "factory": factory.main,
    "fleet": fleet.main,
    "resident": resident.main,
    "size": size.main,
}


def main(names: Sequence[str]) -> int:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"cannot run {', '.join(unknown)}: there are {', '.join(BENCHMARKS)}")
        return 2
    for name in names or BENCHMARKS:
        print(f"== {name}", flush=True)
        BENCHMARKS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
