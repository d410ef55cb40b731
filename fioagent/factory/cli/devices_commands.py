"""What the commands about devices, groups, the deny list and waiting devices do."""

from __future__ import annotations

import argparse
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from fioagent.factory.fleet import config_log, groups, oauth, registry
from fioagent.factory.fleet.devices import Device
from fioagent.factory.fleet.events import rfc3339
from fioagent.factory.fleet.fioctl import describe_whole
from fioagent.factory.lab import Factory
from fioagent.factory.store import factory_name


class Moment(NamedTuple):
    """A transaction, and its time."""

    factory: Factory
    db: sqlite3.Connection
    now: float

    def device(self, wanted: str) -> Device:
        return self.factory.find(self.db, wanted)


@contextmanager
def _opened(args: argparse.Namespace) -> Iterator[Moment]:
    factory = Factory.open(args.dir)
    with factory.store.write() as db:
        yield Moment(factory, db, time.time())


def device_show(args: argparse.Namespace) -> int:
    with _opened(args) as at:
        shown = describe_whole(at.db, at.device(args.device), factory_name(at.db))
    print(json.dumps(shown, indent=2))
    return 0


def device_delete(args: argparse.Namespace) -> int:
    with _opened(args) as at:
        device = at.device(args.device)
        registry.delete(at.db, device, at.now)
    print(f"deleted {device.uuid}; it is on the denied list")
    return 0


def device_config_log(args: argparse.Namespace) -> int:
    """The lines of ``fioctl devices config log``."""
    with _opened(args) as at:
        versions = config_log.versions(at.db, "device", at.device(args.device).uuid)
    for version in versions:
        print(f"Created At:    {version['created-at']}")
        print(f"Created By:    {version['created-by']}")
        print(f"Applied At:    {version['applied-at']}")
        print(f"Change Reason: {version['reason']}")
        print("Files:")
        for file in version["files"]:
            print(f"\t{file['name']}")
        print()
    return 0


def group_create(args: argparse.Namespace) -> int:
    with _opened(args) as at:
        groups.create(at.db, args.group, args.description, at.now)
    print(f"created the device group {args.group}")
    return 0


def group_list(args: argparse.Namespace) -> int:
    with _opened(args) as at:
        for row in groups.all_groups(at.db):
            print(f"{row['name']} created-at={rfc3339(row['created_at'])} {row['description']}")
    return 0


def group_set(args: argparse.Namespace) -> int:
    with _opened(args) as at:
        device = at.device(args.device)
        registry.put_into_group(at.db, device.uuid, args.group, at.now)
    print(f"{device.uuid} is in {args.group or 'no group'}")
    return 0


def group_delete(args: argparse.Namespace) -> int:
    with _opened(args) as at:
        groups.delete(at.db, args.group)
    print(f"deleted the device group {args.group}")
    return 0


def denied_list(args: argparse.Namespace) -> int:
    with _opened(args) as at:
        for uuid, name in registry.denied(at.db):
            print(f"{uuid} name={name}")
    return 0


def denied_remove(args: argparse.Namespace) -> int:
    with _opened(args) as at:
        registry.allow(at.db, args.uuid)
    print(f"{args.uuid} may register again")
    return 0


def oauth_list(args: argparse.Namespace) -> int:
    with _opened(args) as at:
        for each in oauth.waiting(at.db, at.now):
            print(f"{each.user_code} {each.client_id} {each.scope}")
    return 0


def oauth_approve(args: argparse.Namespace) -> int:
    return _decide(args, approved=True)


def oauth_deny(args: argparse.Namespace) -> int:
    return _decide(args, approved=False)


def _decide(args: argparse.Namespace, *, approved: bool) -> int:
    with _opened(args) as at:
        client = oauth.decide(at.db, args.user_code, at.now, approved=approved)
    print(f"{client} {'may' if approved else 'may not'} register")
    return 0
