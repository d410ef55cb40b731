"""The machine around the agent, looked at and never touched (``doctor.ports``)."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Final

from fioagent import dial, systemd, tls
from fioagent.doctor.ports import Entry, Tries
from fioagent.errors import TemporaryError
from fioagent.proxy import Proxy

_LIMIT_S: Final = 10.0  # systemd is on this machine, and answers in milliseconds
_PROPERTIES: Final = (
    "Id,LoadState,ActiveState,SubState,UnitFileState,Result,NRestarts,ExecMainStatus,"
    "StartLimitIntervalUSec,StartLimitBurst,StartLimitAction,ActiveEnterTimestamp"
)
# systemd's "a unit is being started" and "has been" (sd-messages.h, SD_MESSAGE_UNIT_STARTING,
# _STARTED). One of Type=simple has the latter alone, one that fails to start the former.
_STARTS: Final = ("7d4958e842da4a758f6c1cdc7b36dcc5", "39f53479d3a045ac8e11786248231fbf")


class Machine:
    """``doctor.ports.Surroundings``."""

    def entry(self, path: str) -> Entry | None:
        try:
            found = os.lstat(path)
        except OSError:
            return None
        owners = (found.st_uid, found.st_gid)
        return Entry(path, found.st_mode, *owners, found.st_size, found.st_mtime)

    def user(self) -> int:
        return os.geteuid()

    def units(self, names: Sequence[str]) -> Mapping[str, Mapping[str, str]] | None:
        if not systemd.runs_this_machine():
            return None
        text = said(["systemctl", "show", f"--property={_PROPERTIES}", "--", *names])
        if text is None:
            raise TemporaryError("cannot ask systemd for its units: it does not answer")
        blocks = [dict(_pairs(block)) for block in text.split("\n\n") if block.strip()]
        return dict(zip(names, blocks, strict=False))

    def starts(self, unit: str, within_s: float) -> int | None:
        text = said(
            [
                *("journalctl", "--quiet", "--no-pager", "--boot", "--output=json"),
                *("--output-fields=MESSAGE_ID", f"UNIT={unit}"),
                *(f"MESSAGE_ID={each}" for each in _STARTS),
            ]
        )
        if text is None:
            return None
        since = time.clock_gettime(time.CLOCK_MONOTONIC) - within_s
        lines = [line for line in text.splitlines() if _monotonic_s(line) >= since]
        return max(sum(each in line for line in lines) for each in _STARTS)

    def look_up(self, host: str, port: int) -> int:
        try:
            return len(dial.resolved(host, port))
        except OSError as error:
            raise tls.explained(error, host, port) from error

    def reach(self, host: str, port: int, proxy: Proxy) -> None:
        try:
            dial.connect(host, port, proxy).close()
        except OSError as error:
            raise tls.explained(error, host, port) from error

    def tries(self, module: str, label: str) -> Tries | None:
        # Imported late: an optional dependency, and most devices have no token.
        from fioagent.keystore import token_tries  # noqa: PLC0415  # see above

        return token_tries.of(module, label)


def said(command: Sequence[str], limit_s: float = _LIMIT_S) -> str | None:
    """What a program of the system prints; None where it is missing, fails or hangs."""
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=limit_s, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace")


def _pairs(text: str) -> list[tuple[str, str]]:
    split = (line.partition("=") for line in text.splitlines())
    return [(name, value) for name, separator, value in split if separator]


def _monotonic_s(line: str) -> float:
    try:
        return int(json.loads(line)["__MONOTONIC_TIMESTAMP"]) / 1e6
    except (ValueError, KeyError, TypeError):
        return 0.0
