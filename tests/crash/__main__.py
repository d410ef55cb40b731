"""The crash proof: python3 -m tests crash. Prints a table; 0 stranded devices or exit 1.

Every layer cuts, kills or disturbs rotations in its own way and lets each device
boot and go on. A device that cannot reach its gateway afterwards is stranded; any
other promise that does not hold is broken. Both have to be 0, and enough
different states have to have been recovered from for that to mean something.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol, cast

from tests.crash import mutants
from tests.crash.report import COLUMNS, Report, Row, summed

# Imported when they run: one of them is often wanted without the others.
LAYERS: Final[Mapping[int, str]] = MappingProxyType(
    {
        1: "tests.crash.ports",
        2: "tests.crash.kills",
        3: "tests.crash.disk_states",
        4: "tests.crash.faults",
    }
)
QUICK_FLOOR: Final = 20_000  # distinct states
FULL_FLOOR: Final = 250_000
STORES: Final = ("file", "SoftHSM", "TPM")
SHOWN: Final = 20  # failures of a row; the rest is most often the same once more
HOURS: Final = 3  # the layer that takes most of them: it can go on at a scenario


class Layer(Protocol):
    """What a module of LAYERS has."""

    def run(self, *, full: bool, jobs: int, stop_early: bool) -> Iterable[Row]:
        """Every scenario of the layer, a row for each; or the first failure is enough."""
        ...


class LayerOfStores(Protocol):
    """Layer 2 has real key stores."""

    def run(self, *, full: bool, jobs: int, stop_early: bool, store: str) -> Iterable[Row]: ...


class LayerOfHours(Protocol):
    """Layer 3 leaves out scenarios that are done."""

    def run(
        self, *, full: bool, jobs: int, stop_early: bool, done: Collection[str]
    ) -> Iterable[Row]: ...


def load(number: int) -> Layer:
    return cast("Layer", importlib.import_module(LAYERS[number]))


def main(argv: Sequence[str] | None = None, load: Callable[[int], Layer] = load) -> int:
    """The exit status: 0 where every promise was kept, at enough states."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.store and arguments.layer != [2]:
        parser.error("--store is for --layer 2 alone")
    if arguments.resume and not arguments.json:
        parser.error("--resume goes on with a --json FILE")
    if arguments.mutants is not None:
        return mutants.main(arguments.mutants, jobs=arguments.jobs)
    try:
        report = _report(arguments)
    except (OSError, ValueError, KeyError, TypeError) as error:
        parser.error(f"cannot resume {arguments.json}: {error}")
    for number in arguments.layer or sorted(LAYERS):
        if number not in report.finished:
            for row in _rows(number, load(number), arguments, report):
                report.add(row)
            report.finish(number)
    return _verdict(report, floor=0 if arguments.layer else None)


def _verdict(report: Report, floor: int | None) -> int:
    """Told, and as an exit status; without a ``floor`` of states it is that of the kind of run."""
    rows, total = report.rows, summed(report.rows)
    print("\n".join(table([*rows, total])))
    for row in rows:
        for failure in row.failures[:SHOWN]:
            print(f"FAILED: layer {row.layer}: {failure}")
        if more := row.failures[SHOWN:]:
            print(f"FAILED: layer {row.layer}: {row.scenario}: {len(more)} more, --json has all")
    if floor is None:
        floor = FULL_FLOOR if report.full else QUICK_FLOOR
    if total.states < floor:
        print(f"FAILED: {total.states} distinct states, {floor} are promised")
    return 1 if total.stranded or total.broken or total.states < floor else 0


def _report(arguments: argparse.Namespace) -> Report:
    if arguments.resume and arguments.json.exists():
        return Report.resumed(arguments.json, full=arguments.full)
    return Report(arguments.json, arguments.full)


def _rows(
    number: int, layer: Layer, arguments: argparse.Namespace, report: Report
) -> Iterable[Row]:
    asked = {"full": arguments.full, "jobs": arguments.jobs, "stop_early": arguments.stop_early}
    if arguments.store:
        return cast("LayerOfStores", layer).run(**asked, store=arguments.store)
    if number == HOURS:
        done = [row.scenario for row in report.rows if row.layer.startswith(str(number))]
        return cast("LayerOfHours", layer).run(**asked, done=done)
    return layer.run(**asked)


def table(rows: Sequence[Row]) -> list[str]:
    """Lines as wide as they have to be; text to the left, numbers to the right."""
    cells = [["layer", "scenario", "key store", *COLUMNS, "time"]]
    for row in rows:
        numbers = [f"{getattr(row, name):,}" for name in COLUMNS]
        cells.append([row.layer, row.scenario, row.store, *numbers, f"{row.seconds:.0f} s"])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m tests crash", description=__doc__)
    parser.add_argument(
        "--full", action="store_true", help="everything; without it what fits into a few minutes"
    )
    parser.add_argument(
        "--layer",
        type=int,
        action="append",
        choices=sorted(LAYERS),
        help="this one only, may be repeated: 1 ports, 2 kills, 3 disk states, 4 faults",
    )
    parser.add_argument(
        "--store", choices=STORES, help="with --layer 2: scenarios whose keys are there, only"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="processes (default: CPUs)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")
    parser.add_argument(
        "--resume", action="store_true", help="go on where the run of --json FILE was interrupted"
    )
    parser.add_argument(
        "--stop-early", action="store_true", help="the first failure is enough, as for mutants"
    )
    parser.add_argument(
        "--mutants",
        nargs="*",
        metavar="NAME",
        help="break the agent on purpose, once for each mutant of tests/crash/mutants.py (or for "
        "those named), and see that the layers find it",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
