"""The command line about devices, groups, the deny list and devices that ask to register."""

from __future__ import annotations

import argparse

from fioagent.factory.cli import devices_commands as do
from fioagent.factory.cli.arguments import Commands, add_dir, command


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    _add_group_commands(commands)
    _add_denied_commands(commands)
    _add_oauth_commands(commands)


def add_device(below: Commands[argparse.ArgumentParser]) -> None:
    """Below ``device``."""
    parser = command(
        below, "show", do.device_show, "show a device as the operator API does", "device show lab X"
    )
    _add_device(parser)

    parser = command(
        below,
        "delete",
        do.device_delete,
        "delete a device and put it on the deny list",
        "device delete lab UUID",
    )
    _add_device(parser)

    parser = command(
        below,
        "config-log",
        do.device_config_log,
        "show the last versions of a device's configuration",
        "device config-log lab UUID",
    )
    _add_device(parser)


def _add_device(parser: argparse.ArgumentParser) -> None:
    add_dir(parser)
    parser.add_argument("device", metavar="DEVICE", help="its name or its uuid")


def _add_group_commands(commands: Commands[argparse.ArgumentParser]) -> None:
    group = commands.add_parser("group", help="device groups")
    below = group.add_subparsers(required=True, metavar="COMMAND")

    parser = command(
        below, "create", do.group_create, "create a device group", "group create lab shop"
    )
    add_dir(parser)
    parser.add_argument("group", metavar="GROUP", help="its name")
    parser.add_argument("description", metavar="DESCRIPTION", nargs="?", default="")

    parser = command(below, "list", do.group_list, "list the device groups", "group list lab")
    add_dir(parser)

    parser = command(
        below, "set", do.group_set, "put a device into a group", "group set lab UUID shop"
    )
    _add_device(parser)
    parser.add_argument("group", metavar="GROUP", nargs="?", default="", help="default: into none")

    parser = command(
        below, "delete", do.group_delete, "delete a group without devices", "group delete lab shop"
    )
    add_dir(parser)
    parser.add_argument("group", metavar="GROUP", help="its name")


def _add_denied_commands(commands: Commands[argparse.ArgumentParser]) -> None:
    group = commands.add_parser("denied", help="deleted devices, which no server lets in")
    below = group.add_subparsers(required=True, metavar="COMMAND")

    parser = command(below, "list", do.denied_list, "list the deny list", "denied list lab")
    add_dir(parser)

    parser = command(
        below,
        "remove",
        do.denied_remove,
        "let a deleted device register again",
        "denied remove lab UUID",
    )
    add_dir(parser)
    parser.add_argument("uuid", metavar="UUID", help="the device's uuid")


def _add_oauth_commands(commands: Commands[argparse.ArgumentParser]) -> None:
    group = commands.add_parser("oauth", help="devices that ask to register")
    below = group.add_subparsers(required=True, metavar="COMMAND")

    parser = command(below, "list", do.oauth_list, "list those that wait", "oauth list lab")
    add_dir(parser)

    for name, run, about in (
        ("approve", do.oauth_approve, "let a device register"),
        ("deny", do.oauth_deny, "let it not register"),
    ):
        parser = command(below, name, run, about, f"oauth {name} lab BCDF-GHJK")
        add_dir(parser)
        parser.add_argument("user_code", metavar="USER_CODE", help="as the device shows it")
