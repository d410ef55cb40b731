"""Whoever reads what a command prints may go away, or have no room for it: the work goes on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.test_extract import ALL, extracted
from tests.world import World


def deaf(world: World, *arguments: str) -> int:
    """The command with both outputs on a disk that is full; its exit status."""
    with open("/dev/full", "wb") as full:
        return subprocess.run(
            [sys.executable, "-m", "fioagent", *arguments],
            env={**os.environ, **world.device.env},
            stdout=full,
            stderr=full,
            timeout=60,
            check=False,
        ).returncode


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_rotation_goes_on_unheard(world: World, options: list[str]) -> None:
    """It would fail at its first word otherwise, each time."""
    assert deaf(world, "rotate", "--now", "--id", "certs-1", *options) == 0

    assert world.live_pair()[1].name == "pkey.certs-1.pem"
    world.check_nothing_left_behind()


def test_a_check_in_goes_on_unheard(world: World) -> None:
    """The journal of the machine may be away for a moment, in the middle of one."""
    assert deaf(world, "check-in") == 0
    assert extracted(world) == ALL


def test_an_error_that_nobody_reads_has_its_exit_status(world: World) -> None:
    """By it the service knows what to do next."""
    world.factory.set_knob("gateway_answer", "500")

    assert deaf(world, "check-in") == 75
