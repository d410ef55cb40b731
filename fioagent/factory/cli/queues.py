"""``fioagent-factory event-queues``: fioctl's commands, and one that pulls."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Final

from fioagent.factory.api.queues import credentials
from fioagent.factory.cli.arguments import Commands, add_dir, command, table
from fioagent.factory.errors import FactoryError
from fioagent.factory.lab import Factory
from fioagent.factory.pki.forms import write_new

AT_ONCE: Final = 1000


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    group = commands.add_parser("event-queues", help="tell others of what happens")
    below = group.add_subparsers(required=True, metavar="COMMAND")

    parser = command(
        below, "list", _list, "list the queues and what waits in them", "event-queues list lab"
    )
    add_dir(parser)

    parser = command(
        below,
        "mk-push",
        _make_push,
        "send every event to a URL",
        "event-queues mk-push lab hooks http://127.0.0.1:8080/",
    )
    add_dir(parser)
    _add_label(parser)
    parser.add_argument("url", metavar="URL", help="of the receiver, http or https")

    parser = command(
        below,
        "mk-pull",
        _make_pull,
        "keep events until they are fetched",
        "event-queues mk-pull lab mine mine.json",
    )
    add_dir(parser)
    _add_label(parser)
    parser.add_argument(
        "creds", metavar="CREDS_FILE", type=Path, help="new file for what pulling takes"
    )

    parser = command(
        below, "rm", _remove, "remove a queue with all that is in it", "event-queues rm lab hooks"
    )
    add_dir(parser)
    _add_label(parser)

    parser = command(
        below,
        "pull",
        _pull,
        "fetch events from a pull queue, one on a line",
        "event-queues pull lab mine",
    )
    add_dir(parser)
    _add_label(parser)
    parser.add_argument("--keep", action="store_true", help="leave them in the queue")


def _add_label(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("label", metavar="LABEL", help="the queue's name")


def _list(args: argparse.Namespace) -> int:
    """The table of ``fioctl event-queues list``, and two columns of ours."""
    rows = [
        (queue.label, queue.type, queue.push_url, str(queue.waiting), queue.trouble)
        for queue in Factory.open(args.dir).queues()
    ]
    print(table(("LABEL", "TYPE", "PUSH URL", "WAITING", "LAST TROUBLE"), rows))
    return 0


def _make_push(args: argparse.Namespace) -> int:
    if not args.url:
        raise FactoryError("cannot create a push queue without a URL")
    Factory.open(args.dir).add_queue(args.label, args.url)
    print(f"created the push queue {args.label}")
    return 0


def _make_pull(args: argparse.Namespace) -> int:
    """Both or none: a queue whose token nobody has would fill for nobody."""
    factory = Factory.open(args.dir)
    api = factory.urls().api
    token = factory.add_queue(args.label)
    document = credentials(factory.name, args.label, token, api)
    try:
        write_new(args.creds, f"{json.dumps(document, indent=2)}\n".encode(), 0o600)
    except OSError as error:
        factory.remove_queue(args.label)
        raise FactoryError(f"cannot write {args.creds}: {error.strerror}") from error
    print(f"created the pull queue {args.label}; what pulling takes is in {args.creds}")
    return 0


def _remove(args: argparse.Namespace) -> int:
    Factory.open(args.dir).remove_queue(args.label)
    print(f"removed the queue {args.label}")
    return 0


def _pull(args: argparse.Namespace) -> int:
    """As ``fioctl event-queues listen`` prints them, but it ends when there are no more."""
    factory = Factory.open(args.dir)
    limit = sys.maxsize if args.keep else AT_ONCE
    while found := factory.pull(args.label, limit, keep=args.keep):
        for message in found:
            print(message.type, message.payload)
        if args.keep:
            break
    return 0
