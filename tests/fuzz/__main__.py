"""The long run: ``python3 -m tests fuzz [--seconds N] [NAME...]``.

Random inputs for each reader in turn, N seconds each (60 by default). What is found is
written to a file that becomes a seed: ``tests/fuzz/seeds/NAME/``, where the suite reads it
for ever. Exit status 1 then.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.rounds import random_round
from tests.fuzz.targets import all_targets, seeds_of
from tests.fuzz.watch import FindingError, Target


def main(arguments: Sequence[str]) -> int:
    with all_targets() as targets:
        parser = argparse.ArgumentParser(prog="python3 -m tests fuzz", description=__doc__)
        parser.add_argument("--seconds", type=int, default=60, help="for each reader")
        parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(targets))
        given = parser.parse_args(arguments)
        unknown = [name for name in given.names if name not in targets]
        if unknown:
            print(f"cannot fuzz {', '.join(unknown)}: there are {', '.join(targets)}")
            return 2
        found = [run(targets[name], given.seconds) for name in given.names or targets]
    return 1 if any(found) else 0


def run(target: Target, seconds: float) -> bool:
    """Whether something was found."""
    seeds = seeds_of(target.name)
    until, inputs = time.monotonic() + seconds, 0
    try:
        while time.monotonic() < until:
            inputs += random_round(target, seeds)
    except FindingError as finding:
        path = Path(f"{target.name}-{hashlib.sha256(finding.data).hexdigest()[:12]}")
        path.write_bytes(finding.data)
        print(f"{target.name}: FOUND: {finding}\n  the input is in {path}", flush=True)
        return True
    print(f"{target.name}: {inputs} inputs, nothing found", flush=True)
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
