"""``fioagent daemon``: from the command line to the resident process.

The command line's interpreter has argparse and all that ``site`` brings; the
service would carry that for ever. So this process becomes another, with the
same number: an interpreter without ``site`` that runs ``resident.py``.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Mapping
from typing import NoReturn

from fioagent import forms
from fioagent.errors import ConfigError

CHECK_IN_LIMIT_S = 900.0  # handlers of several files, each with a limit of its own
ROTATE_LIMIT_S = 900.0  # a slow token and a slow line; each request has a limit of its own


def add(
    add: Callable[..., argparse.ArgumentParser], common: argparse.ArgumentParser
) -> argparse.ArgumentParser:
    """The command with its options; what it calls is the command line's business."""
    daemon = add(
        "daemon",
        parents=[common],
        help="stay, check in every few minutes, and rotate when it is time",
        description="The resident service: starts 'fioagent check-in' at its interval and "
        "'fioagent rotate' when one is wanted, each with a time limit. SIGHUP: look at the "
        "configuration again and check in at once.",
    )
    daemon.add_argument(
        "--check",
        action="store_true",
        help="only say whether the configuration can be used, e.g. fioagent daemon --check",
    )
    daemon.add_argument(
        "-i",
        "--interval",
        metavar="SECONDS",
        help="from check-in to check-in (default: daemon.interval of the settings), "
        "e.g. --interval 600",
    )
    daemon.add_argument(
        "--check-in-limit",
        metavar="SECONDS",
        default=CHECK_IN_LIMIT_S,
        help="how long a check-in may take, handlers included (default: %(default)g), "
        "e.g. --check-in-limit 1800",
    )
    daemon.add_argument(
        "--rotate-limit",
        metavar="SECONDS",
        default=ROTATE_LIMIT_S,
        help="how long one run of a rotation may take; the next goes on (default: %(default)g), "
        "e.g. --rotate-limit 1800",
    )
    return daemon


def environment(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Mapping[str, str]:
    """With the interval that was given, where the settings look for it, ours and the workers'.

    Raises:
        ConfigError: it is none.
    """
    if arguments.interval is None:
        return environ
    try:
        seconds = forms.duration(arguments.interval).total_seconds()
    except ValueError:
        seconds = 0
    if seconds < 1:
        raise ConfigError(
            f"cannot use --interval {arguments.interval!r}: it is no duration of a second or more",
            hint="such as --interval 600 or --interval 10m",
        )
    return {**environ, "DAEMON_INTERVAL": arguments.interval}


def become_resident(arguments: argparse.Namespace, environ: Mapping[str, str]) -> NoReturn:
    """This process is the service from here on.

    Raises:
        ConfigError: a limit is no number of seconds.
    """
    # S606: a shell is not wanted.
    os.execve(sys.executable, resident_arguments(arguments), dict(environ))  # noqa: S606


def resident_arguments(arguments: argparse.Namespace) -> list[str]:
    """The command line of the resident process."""
    limits = (
        seconds("--check-in-limit", arguments.check_in_limit),
        seconds("--rotate-limit", arguments.rotate_limit),
    )
    resident = os.path.join(os.path.dirname(os.path.abspath(__file__)), "resident.py")
    options = [word for path in arguments.config for word in ("--config", path)]
    return [
        *(sys.executable, "-I", "-S", resident),
        *(f"{limit:g}" for limit in limits),
        *program(),
        *(["--", *options] if options else []),
    ]


def program() -> list[str]:
    """What workers are started as: as we were."""
    started_as = os.path.abspath(sys.argv[0])
    if os.path.basename(started_as) == "__main__.py":
        return [sys.executable, "-m", "fioagent"]
    return [started_as]


def seconds(name: str, value: str | float) -> float:
    """Of an option. Raises ConfigError: it is no number of seconds."""
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if not 0 < found <= 7 * 86_400:
        raise ConfigError(
            f"cannot use {name} {value!r}: it is not a number of seconds, a week at most",
            hint=f"such as {name} 900",
        )
    return found
