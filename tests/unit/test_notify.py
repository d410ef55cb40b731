"""What the service says to systemd, and for whom: sd_notify(3)."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

import pytest

from fioagent.notify import Notify

OURS = 4711
# The service has its socket for as long as it lives.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.mark.parametrize(("watched", "every_s"), [(None, 450.0), (OURS, 450.0), (1, None)])
def test_the_watchdog_of_another_process_is_not_ours(
    watched: int | None, every_s: float | None
) -> None:
    """And no worker finds any of the variables."""
    environ = {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "900000000", "HOME": "/"}
    if watched is not None:
        environ["WATCHDOG_PID"] = str(watched)

    notify = Notify(environ, OURS)

    assert notify.alive_every_s == every_s
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize("abstract", [True, False])
def test_a_word_is_one_datagram(tmp_path: Path, abstract: bool) -> None:
    """Also to an address without a file; line ends in it would be other words."""
    name = f"@fioagent-{secrets.token_hex(8)}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name[1:] if abstract else name)
        listening.settimeout(30)
        Notify({"NOTIFY_SOCKET": name}, OURS).ready("waits\nSTOPPING=1")

        assert listening.recv(4096) == b"READY=1\nSTATUS=waits STOPPING=1"


def test_nobody_listens() -> None:
    """By hand, or systemd is about to be: that is no reason to end."""
    Notify({}, OURS).alive()
    Notify({"NOTIFY_SOCKET": "/nowhere/at/all"}, OURS).alive()
