"""Is the proof worth anything? Each mutant is the agent broken once, and has to be found.

A copy of the package and its tests is changed in one place, and the layer that
looks after the broken promise runs on it until its first failure. A mutant that
nobody finds is a hole in the proof. The copy without any change has to pass
first: a layer that fails on its own finds everything and proves nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.crash.mutant import Mutant
from tests.crash.mutant_list import MUTANTS

TOP: Final = Path(__file__).resolve().parent.parent.parent
TIMEOUT_S: Final = 3600
_WHAT_RUNS: Final = ("fioagent", "tests", "pyproject.toml")


class MutantError(Exception):
    """The list does not fit the agent, or the layers fail without any mutant."""


@dataclass(frozen=True, slots=True)
class Found:
    """What became of a mutant.

    Attributes:
        by: the layer or the tests that found it; empty: it survived.
        how: the first failure.
    """

    mutant: Mutant
    by: str
    how: str
    seconds: float


def main(names: Sequence[str], *, jobs: int) -> int:
    """Run those of ``names``, or all; the exit status: 0 where every one is found."""
    unknown = set(names) - {mutant.name for mutant in MUTANTS}
    if unknown:
        print(f"no such mutant: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    wanted = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    try:
        found = list(_all(wanted, jobs))
    except MutantError as error:
        print(f"FAILED: {error}")
        return 1
    print("\n".join(table(found)))
    survivors = [each for each in found if not each.by]
    for each in survivors:
        print(f"FAILED: mutant {each.mutant.name} survived: {each.mutant.promise}")
    return 1 if survivors else 0


def mutated(mutant: Mutant, source: str) -> str:
    """Raises MutantError: the text is not there exactly once."""
    times = source.count(mutant.text)
    if times != 1:
        raise MutantError(f"mutant {mutant.name}: its text is {times} times in {mutant.file}")
    return source.replace(mutant.text, mutant.instead)


def table(found: Sequence[Found]) -> list[str]:
    width = max(len(each.mutant.name) for each in found)
    lines = [
        f"{each.mutant.name:{width}}  {_who(each.by) or 'SURVIVED':28}  {each.seconds:4.0f} s  "
        f"{each.how[:160]}".rstrip()
        for each in found
    ]
    killed = sum(bool(each.by) for each in found)
    return [*lines, f"{killed} of {len(found)} mutants found"]


def _who(finder: str) -> str:
    return f"layer {finder}" if finder.isdigit() else finder


def _all(wanted: Sequence[Mutant], jobs: int) -> Iterator[Found]:
    finders = sorted({finder for mutant in wanted for finder in mutant.found_by})
    with (
        tempfile.TemporaryDirectory(prefix="fioagent-mutants-") as scratch,
        ThreadPoolExecutor(jobs) as pool,
    ):
        place = _copied(Path(scratch) / "unchanged")
        for finder in finders:
            how, seconds = _failure(finder, place, jobs)
            print(f"without a mutant: {_who(finder)}: {seconds:.0f} s", file=sys.stderr)
            if how:
                raise MutantError(f"{_who(finder)} fails without any mutant: {how}")
        yield from pool.map(lambda mutant: _hunt(mutant, Path(scratch)), wanted)


def _hunt(mutant: Mutant, scratch: Path) -> Found:
    place = _copied(scratch / mutant.name)
    file = place / "fioagent" / mutant.file
    file.write_text(mutated(mutant, file.read_text()))
    total = 0.0
    for finder in mutant.found_by:
        how, seconds = _failure(finder, place, 1)
        total += seconds
        if how:
            break
    shutil.rmtree(place)
    found = Found(mutant, finder if how else "", how, total)
    print(table([found])[0], file=sys.stderr)
    return found


def _copied(place: Path) -> Path:
    for name in _WHAT_RUNS:
        if (TOP / name).is_dir():
            shutil.copytree(TOP / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(TOP / name, place / name)
    return place


def _failure(finder: str, place: Path, jobs: int) -> tuple[str, float]:
    """The first failure of a layer, or of pytest, in a copy; empty where all passes."""
    started = time.monotonic()
    result = place / f"result-{finder if finder.isdigit() else 'pytest'}.json"
    if finder.isdigit():
        module = ["tests.crash", "--layer", finder, "--jobs", str(jobs), "--stop-early"]
        command = [sys.executable, "-m", *module, "--json", str(result)]
    else:
        options = ["-q", "-x", "--no-header", "--tb=line", "-p", "no:cacheprovider"]
        command = [sys.executable, "-m", "pytest", *options, *finder.split()]
    try:
        done = subprocess.run(
            command,
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(place)},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {TIMEOUT_S} s", time.monotonic() - started
    how = "" if done.returncode == 0 else _first(done, result)
    return how, time.monotonic() - started


def _first(done: subprocess.CompletedProcess[str], result: Path) -> str:
    if result.exists():
        failures = json.loads(result.read_text())["total"]["failures"]
        return str(failures[0]) if failures else f"exit {done.returncode}"
    told = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    lines = told or (done.stdout + done.stderr).strip().splitlines() or ["nothing was said"]
    return lines[-1]
