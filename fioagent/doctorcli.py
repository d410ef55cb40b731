"""fioagent doctor: everything that can be looked at, and what to do. Parser, and what it calls."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from fioagent import launch
from fioagent.errors import ConfigError
from fioagent.fioconfig import Console
from fioagent.model import Exit

if TYPE_CHECKING:
    from fioagent.doctor.finding import Finding

Environ = Mapping[str, str]
LIMIT_S: Final = 60.0
_DESCRIPTION: Final = (
    "Looks at everything that a rotation depends on and changes nothing: one line a check with "
    "ok, warn, fail or skip, and what to do next below it. Without a network: --offline."
)
_EPILOG: Final = """\
exit status: 0 nothing failed, 75 what failed may work later, 1 a server refuses,
78 this device needs a person first.
"""


def run(arguments: argparse.Namespace, environ: Environ, console: Console) -> int:
    """The process that a person sees, or the one that does the work."""
    # Imported late, as in cli.py: not every command needs what checks need.
    from fioagent.doctor import finding  # noqa: PLC0415  # see above

    if arguments.worker is not None:
        return _work(arguments, environ, console)
    found = []
    for each in findings(arguments.config, environ, arguments.limit, offline=arguments.offline):
        found.append(each)
        if arguments.json:
            console.emit(each.as_json())
        else:
            for line in finding.lines(each):
                console.say(line)
    code, message = finding.worst(found), finding.summary(found)
    if arguments.json:
        said = {"result": finding.RESULTS[code], "exit": int(code), "message": message}
        console.emit({"event": "end", **said})
    else:
        console.say(message)
    return code


def findings(
    config: Sequence[str], environ: Environ, limit: str | float, *, offline: bool
) -> Iterator[Finding]:
    """Of the checks, each in its time. Raises ConfigError: ``limit`` is no number of seconds."""
    from fioagent.doctor import supervised  # noqa: PLC0415  # as in run
    from fioagent.doctor.examination import Order  # noqa: PLC0415  # as in run

    order = Order(tuple(config), offline)
    return supervised.examine(
        launch.program(), order, {**os.environ, **environ}, launch.seconds("--limit", limit)
    )


def _work(arguments: argparse.Namespace, environ: Environ, console: Console) -> int:
    from fioagent.doctor import examination  # noqa: PLC0415  # as in run

    try:
        said = json.loads(arguments.worker)
        order = examination.Order(
            tuple(arguments.config), arguments.offline, said["after"], tuple(said["failed"])
        )
        examination.names(order)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError("cannot use --worker: it is for fioagent itself") from error
    for each in examination.examine(order, environ, lambda name: console.emit({"begins": name})):
        console.emit({**each.as_json(), "exit": int(each.exit)})
    console.emit({"event": "end"})
    return Exit.DONE


def add(
    add_parser: Callable[..., argparse.ArgumentParser],
    common: argparse.ArgumentParser,
    console: Console,
) -> None:
    """The parser of this command."""
    doctor = add_parser(
        "doctor",
        parents=[common],
        help="look at everything that a rotation depends on, and say what to do",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(doctor)
    doctor.add_argument("--worker", help=argparse.SUPPRESS)
    doctor.set_defaults(command=lambda given, environ: run(given, environ, console))


def add_options(parser: argparse.ArgumentParser) -> None:
    """What an examination can be told."""
    parser.add_argument(
        "--offline",
        action="store_true",
        help="only what needs no network, e.g. fioagent doctor --offline",
    )
    parser.add_argument(
        "--limit",
        metavar="SECONDS",
        default=LIMIT_S,
        help="how long each check may take (default: %(default)g), e.g. --limit 20",
    )
