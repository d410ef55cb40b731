"""A process that is killed while its token writes: half a key, half a certificate, no harm.

SoftHSM names its files at random, so a call is found by its number among those of
its name in the whole process; where it fell is read off strace's log afterwards.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests import needs
from tests.token_world import TokenWorld
from tests.world import SECRET

TOP: Final = Path(__file__).resolve().parent.parent
CALLS: Final = ("openat", "write", "fsync", "ftruncate", "unlink", "rename")
ROTATE: Final = ("rotate", "--now", "--id", "certs-1")
_CALL: Final = re.compile(r"\d+ +(\w+)\((.*)")
EVERY: Final = 12  # so-manieth call is killed at
MANY: Final = 3


def traced(world: TokenWorld, log: Path, *options: str) -> int:
    """Exit status of a rotation under strace; minus the signal that ended it."""
    command = ["strace", "-f", "-y", "-o", str(log), "-e", f"trace={','.join(CALLS)}", *options]
    command += [sys.executable, "-m", "fioagent", *ROTATE]
    environ = {**os.environ, **world.token.env, **world.device.env, "PYTHONHASHSEED": "0"}
    return subprocess.run(
        command, env=environ, cwd=TOP, capture_output=True, check=False
    ).returncode


def calls(log: Path) -> list[tuple[str, str]]:
    lines = log.read_text().splitlines()
    return [(found[1], found[2]) for line in lines if (found := _CALL.match(line))]


def at_the_token(found: Sequence[tuple[str, str]], token: Path) -> list[tuple[str, int]]:
    """Name and number of the calls that write there."""
    counts: Counter[str] = Counter()
    wanted = []
    for name, arguments in found:
        counts[name] += 1
        reads = name == "openat" and "O_CREAT" not in arguments and "O_RDWR" not in arguments
        if f"{token}/tokens" in arguments and not reads:
            wanted.append((name, counts[name]))
    return wanted


def test_a_kill_while_the_token_writes(token_world: TokenWorld, tmp_path: Path) -> None:
    """Key, certificate and removals; then it boots, and the rotation ends as it should."""
    needs.root_and("strace")
    world, log, killed = token_world, tmp_path / "log", 0
    world.give_config()
    assert traced(world, log) == 0
    ids = {("01", "03"): ("07", "09"), ("07", "09"): ("01", "03")}
    for name, number in at_the_token(calls(log), world.token.directory)[::EVERY]:
        (world.storage / "cert-rotation.state.completed").unlink(missing_ok=True)
        for journal in (world.storage / "fioagent").glob("ended-*.journal"):
            journal.unlink()  # so that the same id may rotate again, and a CA is asked
        before = world.live_ids()

        code = traced(world, log, "-e", f"inject={name}:signal=KILL:when={number}")

        killed += code == -9
        recovered = world.fioagent("recover")
        assert recovered.code == 0, recovered.err
        assert world.fioagent("check-in").code == 0
        assert world.extracted()["app-secret"] == SECRET
        ran = world.fioagent(*ROTATE)
        assert ran.code == 0, ran.err
        assert world.live_ids() == ids[before]
        # What SoftHSM had begun, and given neither an id nor a label, nobody can remove.
        assert len([each for each in world.token.objects() if each[2]]) == 3
    assert killed > MANY
