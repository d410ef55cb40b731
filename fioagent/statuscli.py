"""fioagent status and fioagent log: argv -> one look -> exit code. Nothing is changed."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from fioagent.errors import AgentError, ConfigError
from fioagent.fioconfig import Console
from fioagent.model import Exit

if TYPE_CHECKING:
    from fioagent.rotation.journal import Journal

Environ = Mapping[str, str]


def status(arguments: argparse.Namespace, environ: Environ, console: Console) -> int:
    """What is live, what comes next, whether anybody is needed."""
    # Imported late, as in cli.py: not every command needs the agent.
    from fioagent import agent, metrics, statuswords  # noqa: PLC0415  # see above

    try:
        with agent.opened(arguments.config, environ) as opened:
            now = opened.status()
    except AgentError:
        if arguments.prometheus:
            for line in metrics.of_none():
                console.say(line)
        raise
    if arguments.json:
        console.emit(statuswords.status_json(now))
    elif arguments.short:
        console.say(statuswords.short(now))
    else:
        for line in metrics.of(now) if arguments.prometheus else statuswords.status(now):
            console.say(line)
    return Exit.DONE if now.problem is None else Exit.CONFIG


def log(arguments: argparse.Namespace, environ: Environ, console: Console) -> int:
    """A rotation's story."""
    from fioagent import agent, story  # noqa: PLC0415  # as in status

    journal = agent.journal(arguments.config, environ)
    ended = journal.ended()
    found = _found(journal, ended, arguments.id)
    rotation = None if found is None else found.rotation
    if found is None or rotation is None:
        if arguments.json:
            console.emit({"event": "end", "result": "none"})
        else:
            console.say("no rotation is in the journal yet")
        return Exit.DONE
    if arguments.json:
        for value in story.told_json(found.records, rotation):
            console.emit(value)
        return Exit.DONE
    for line in story.told(found.records, rotation):
        console.say(line)
    others = [each for each in _ids([*ended, journal]) if each != rotation.id]
    if others:
        console.say("others in the journal, 'fioagent log ID':")
        for each in others:
            console.say(f"  {each}")
    return Exit.DONE


def _found(journal: Journal, ended: list[Journal], wanted: str | None) -> Journal | None:
    """The one that is asked for, else the open one, else the latest; None where there is none.

    Of several with one id the latest. Raises ConfigError: no such one, or it is damaged.
    """
    problem = None
    try:
        journal.load()
    except ConfigError as error:
        problem = error
    of_old = [each for each in ended if wanted in (None, _id(each))]
    if journal.rotation is not None and wanted in (None, journal.rotation.id):
        return journal
    if problem is not None and (wanted is None or not of_old):
        raise problem
    if wanted is not None and not of_old:
        known = ", ".join(_ids([*ended, journal])) or "none"
        raise ConfigError(
            f"cannot find the rotation {wanted} in the journal",
            hint=f"in it are: {known}; the last ten that ended are kept",
        )
    return of_old[-1] if of_old else None


def _ids(journals: list[Journal]) -> list[str]:
    """Latest first, each once."""
    found = [_id(each) for each in reversed(journals)]
    return list(dict.fromkeys(each for each in found if each is not None))


def _id(journal: Journal) -> str | None:
    return None if journal.rotation is None else journal.rotation.id


def add(
    add_parser: Callable[..., argparse.ArgumentParser],
    common: argparse.ArgumentParser,
    console: Console,
) -> None:
    """The parsers of these commands."""
    parser = add_parser(
        "status",
        parents=[common],
        help="is the device safe, what comes next, does it need you; then the details",
        description="Tells in three lines whether the device is safe today, what happens next "
        "and when, and whether it needs a person; then the details. By what is on the device "
        "alone: asks no server, changes nothing.",
    )
    parser.add_argument(
        "--short",
        action="store_true",
        help="one line, for a banner at login, e.g. fioagent status --short",
    )
    parser.add_argument(
        "--prometheus",
        action="store_true",
        help="for node_exporter's textfile collector, e.g. fioagent status --prometheus",
    )

    def one_form(given: argparse.Namespace, environ: Environ) -> int:
        if sum((given.json, given.short, given.prometheus)) > 1:
            parser.error("--json, --short and --prometheus are three forms: give one")
        return status(given, environ, console)

    parser.set_defaults(command=one_form)
    story = add_parser(
        "log",
        parents=[common],
        help="what happened in a rotation, when, and how long it took",
        description="Tells a rotation's story from the device's own journal, which outlasts a "
        "reboot. Without an ID: of the open rotation, else of the latest.",
    )
    story.add_argument("id", metavar="ID", nargs="?", help="of a rotation; the last ten are kept")
    story.set_defaults(command=lambda given, environ: log(given, environ, console))
