"""``fioagent-factory fault``: make endpoints slow, failing, silent or lying."""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from typing import Final

from fioagent.factory.cli.arguments import Commands, add_dir, command
from fioagent.factory.lab import Factory
from fioagent.factory.servers.faults import ACTIONS, SERVERS, STALE_DATE, Fault, describe

OPTIONS: Final = tuple(field.name for field in fields(Fault))


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    group = commands.add_parser("fault", help="make servers slow, failing, silent or lying")
    below = group.add_subparsers(required=True, metavar="COMMAND")
    _add_add(below)

    parser = command(
        below, "list", _list, "list the faults and how often each has acted", "fault list lab"
    )
    add_dir(parser)
    parser.add_argument("--json", action="store_true", help="for machines")

    parser = command(below, "remove", _remove, "remove a fault", "fault remove lab 3")
    add_dir(parser)
    parser.add_argument("id", metavar="ID", type=int, help="as the list shows it")

    parser = command(below, "clear", _clear, "remove all faults", "fault clear lab")
    add_dir(parser)


def _add_add(below: Commands[argparse.ArgumentParser]) -> None:
    parser = command(
        below,
        "add",
        _add,
        "add a fault; it acts from the next request or connection on",
        "fault add lab status --server gateway --path /config --status 503 --times 3",
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    actions = "\n".join(f"  {name:<13} {about}" for name, (about, _) in ACTIONS.items())
    parser.description = f"{parser.description}\n\nactions:\n{actions}"
    add_dir(parser)
    parser.add_argument("action", metavar="ACTION", choices=list(ACTIONS), help="see above")
    which = parser.add_argument_group("which requests, or connections for tls-*")
    which.add_argument("--server", choices=SERVERS, help="default: any")
    which.add_argument("--method", metavar="M", type=str.upper, help="default: any")
    which.add_argument("--path", metavar="PATTERN", help="with * and ?; default: any")
    which.add_argument("--device", metavar="UUID", help="of the client's certificate; default: any")
    which.add_argument("--after", metavar="N", type=int, help="let the first N pass")
    which.add_argument("--times", metavar="N", type=int, help="act on N; default: on all")
    how = parser.add_argument_group("how")
    how.add_argument("--delay", metavar="S", type=float, help="wait so many seconds before it")
    how.add_argument("--done", action="store_true", help="carry the request out first")
    how.add_argument("--status", metavar="N", type=int, help="of the answer")
    how.add_argument("--body", metavar="TEXT", help="of the answer; default: none")
    how.add_argument("--content-type", metavar="TYPE", help="of the answer")
    how.add_argument("--retry-after", metavar="S", type=int, help="that header of the answer")
    how.add_argument("--date", metavar="DATE", help=f"that header; default: {STALE_DATE}")


def _add(args: argparse.Namespace) -> int:
    given = {name: value for name in OPTIONS if (value := getattr(args, name)) is not None}
    print(Factory.open(args.dir).add_fault(**given))
    return 0


def _list(args: argparse.Namespace) -> int:
    """The options of each as they were typed."""
    rows = [describe(kept) for kept in Factory.open(args.dir).faults()]
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        shown = [f"{name}={row[name]}" for name in OPTIONS[1:] if name in row]
        acted = f"hits={row['hits']}{' (spent)' if row['spent'] else ''}"
        print(" ".join([str(row["id"]), row["action"], *shown, acted]))
    return 0


def _remove(args: argparse.Namespace) -> int:
    Factory.open(args.dir).remove_fault(args.id)
    print(f"removed the fault {args.id}")
    return 0


def _clear(args: argparse.Namespace) -> int:
    print(f"removed {Factory.open(args.dir).clear_faults()} faults")
    return 0
