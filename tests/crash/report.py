"""What the layers of the crash proof have found: rows, and the file that they are kept in."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

TOP: Final = Path(__file__).resolve().parent.parent.parent
COLUMNS: Final = ("points", "states", "stranded", "broken", "rotated", "reverted")


@dataclass(frozen=True, slots=True)
class Row:
    """One scenario of one layer.

    Attributes:
        layer: "1 ports", "2 kills", "3 disk states" or "4 faults".
        scenario: what was under way, "first rotation" for example.
        store: where the keys are: "file" or "token".
        points: places at which it was cut, or a fault was put in.
        states: distinct states of disk and servers that were recovered from.
        stranded: devices that could not reach their gateway afterwards; must be 0.
        broken: other promises broken; must be 0.
        rotated: ended with the new pair live.
        reverted: ended with the old pair live, and told so.
        failures: one line for each of ``stranded`` and ``broken``: where, and what was found.
        seconds: wall clock.
    """

    layer: str
    scenario: str
    store: str
    points: int
    states: int
    stranded: int
    broken: int
    rotated: int
    reverted: int
    failures: tuple[str, ...]
    seconds: float


def summed(rows: Sequence[Row]) -> Row:
    sums = {name: sum(getattr(row, name) for row in rows) for name in COLUMNS}
    failures = tuple(line for row in rows for line in row.failures)
    seconds = sum(row.seconds for row in rows)
    return Row(layer="all", scenario="", store="", failures=failures, seconds=seconds, **sums)


@dataclass
class Report:
    """The rows so far; in a file, too, so that a run of hours may be interrupted.

    Attributes:
        path: of the file; None: nobody wants one.
        full: whether it is of the full run.
        rows: in the order in which they were found.
        finished: layers that are at their end.
    """

    path: Path | None
    full: bool
    rows: list[Row] = field(default_factory=list)
    finished: list[int] = field(default_factory=list)

    @classmethod
    def resumed(cls, path: Path, *, full: bool) -> Report:
        """As an interrupted run has left it.

        Raises:
            ValueError: it is of another program, or of the other kind of run.
        """
        told = json.loads(path.read_text())
        if (told["sources"], told["full"]) != (sources(), full):
            raise ValueError("it is of other sources, or of the other kind of run")
        rows = [Row(**{**row, "failures": tuple(row["failures"])}) for row in told["rows"]]
        return cls(path, full, rows, told["finished"])

    def add(self, row: Row) -> None:
        self.rows.append(row)
        self._keep()

    def finish(self, layer: int) -> None:
        self.finished.append(layer)
        self._keep()

    def _keep(self) -> None:
        if self.path is None:
            return
        told = {
            "sources": sources(),
            "full": self.full,
            "python": platform.python_version(),
            "kernel": platform.release(),
            "finished": self.finished,
            "rows": [asdict(row) for row in self.rows],
            "total": asdict(summed(self.rows)),
        }
        self.path.write_text(json.dumps(told, indent=1))


def sources() -> str:
    """SHA-256 over the agent, the factory and the crash proof."""
    digest = hashlib.sha256()
    for directory in (TOP / "fioagent", TOP / "tests" / "crash"):
        for path in sorted(directory.rglob("*.py")):
            digest.update(f"{path.relative_to(TOP)}\n".encode() + path.read_bytes())
    return digest.hexdigest()
