"""The command line, ``fioagent-factory``: what can be typed. What it does is in ``commands``."""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path

import fioagent
from fioagent.factory.cli import commands as do
from fioagent.factory.cli import devices, faults, keys, queues
from fioagent.factory.cli.arguments import (
    Command,
    Commands,
    add_dir,
    add_uuid,
    address,
    command,
    named_file,
)
from fioagent.factory.errors import FactoryError
from fioagent.factory.fleet.fioctl import CERT_IDS, PKEY_IDS
from fioagent.factory.fleet.hsm import MAKERS
from fioagent.factory.fleet.provision import DEFAULT_HARDWARE_ID
from fioagent.factory.servers.serving import SERVERS, SIGN


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fioagent-factory",
        description=f"A local factory: PKI, device gateway, EST server, operator API. {do.NOTICE}",
        epilog="example: fioagent-factory demo",
    )
    parser.add_argument("--version", action="version", version=fioagent.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_factory_commands(commands)
    _add_device_commands(commands)
    _add_config_commands(commands)
    _add_other_commands(commands)
    devices.add(commands)
    keys.add(commands)
    queues.add(commands)
    faults.add(commands)
    return parser


def _add_token(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--token",
        choices=list(MAKERS),
        help="put the device's key in a fresh PKCS#11 token, of SoftHSM or of a TPM by swtpm",
    )


def _add_factory_commands(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = command(commands, "init", do.init, "create a factory", "init lab --name my-factory")
    add_dir(parser)
    parser.add_argument("--name", default="lab-factory", help="the factory's name (%(default)s)")
    parser.add_argument(
        "--no-pki",
        action="store_true",
        help="leave it with the shared PKI, for `keys ca create` or the API to take ownership",
    )

    parser = command(
        commands, "serve", do.serve, "run the servers", "serve lab --gateway 127.0.0.1:8443"
    )
    add_dir(parser)
    for name, what in zip(SERVERS, ("device gateway", "EST server", "operator API"), strict=True):
        parser.add_argument(
            f"--{name}",
            type=address,
            metavar="ADDR:PORT",
            help=f"where the {what} listens; default: loopback, the port of the last time",
        )
    parser.add_argument(
        f"--{SIGN}",
        type=address,
        metavar="ADDR:PORT",
        help="a registration server as well, which signs for whoever reaches it; default: none",
    )


def _add_device_commands(commands: Commands[argparse.ArgumentParser]) -> None:
    group = commands.add_parser("device", help="add and list devices")
    below = group.add_subparsers(required=True, metavar="COMMAND")

    parser = command(
        below, "add", do.device_add, "make a device directory", "device add lab device"
    )
    add_dir(parser)
    parser.add_argument("device_dir", metavar="DEVICE_DIR", type=Path, help="new directory")
    parser.add_argument("--uuid", help="the device's uuid; default: a random one")
    parser.add_argument(
        "--hardware-id", default=DEFAULT_HARDWARE_ID, help="for sota.toml (%(default)s)"
    )
    parser.add_argument(
        "--ca",
        choices=["local-ca", "online-ca"],
        help="who signs; default: the local CA of DIR/pki, else the online CA",
    )
    _add_token(parser)

    parser = command(below, "list", do.device_list, "list the devices", "device list lab --json")
    add_dir(parser)
    parser.add_argument("--json", action="store_true", help="for machines")
    devices.add_device(below)


def _add_config_commands(commands: Commands[argparse.ArgumentParser]) -> None:
    group = commands.add_parser("config", help="write configuration")
    below = group.add_subparsers(required=True, metavar="COMMAND")
    parser = command(
        below,
        "set",
        do.config_set,
        "set configuration files of a device, or of all",
        "config set lab UUID app-secret=secret.txt",
    )
    add_dir(parser)
    add_uuid(parser)
    parser.add_argument(
        "files", metavar="FILE", nargs="+", type=named_file, help="name=path, or a path"
    )
    parser.add_argument("--plain", action="store_true", help="do not encrypt")
    parser.add_argument("--on-changed", metavar="HANDLER", help="run on the device on a change")
    parser.add_argument("--reason", default="", help="why; for the log")
    parser.add_argument(
        "--factory-wide", action="store_true", help="for all devices; give - as UUID"
    )

    parser = command(
        commands,
        "rotate-certs",
        do.rotate_certs,
        "ask a device to rotate its certificate, or a group of them, as fioctl does",
        "rotate-certs lab UUID",
    )
    add_dir(parser)
    parser.add_argument("uuid", metavar="UUID", nargs="?", help="the device's uuid")
    parser.add_argument("--group", help="all devices of this group instead")
    parser.add_argument("--est-url", help="default: this factory's EST server")
    parser.add_argument("--reason", default="", help="why; for the log")
    parser.add_argument("--hsm-pkey-ids", default=PKEY_IDS, help="(%(default)s)")
    parser.add_argument("--hsm-cert-ids", default=CERT_IDS, help="(%(default)s)")
    parser.add_argument("--id", help="the rotation's id; default: certs-<unix seconds>")


def _add_other_commands(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = command(
        commands,
        "updates",
        do.updates,
        "show what a device has reported",
        "updates lab UUID certs-1700000000",
    )
    add_dir(parser)
    add_uuid(parser)
    parser.add_argument("id", metavar="ID", nargs="?", help="one update, with its events")
    parser.add_argument("--json", action="store_true", help="for machines")

    parser = command(
        commands, "knob", do.knob, "list, show or set the knobs", "knob lab old_key drop"
    )
    add_dir(parser)
    parser.add_argument("name", metavar="NAME", nargs="?", help="one knob")
    parser.add_argument("value", metavar="VALUE", nargs="?", help="its new value")
    parser.add_argument("--reset", action="store_true", help="all of them back to their defaults")

    parser = command(
        commands, "demo", do.run_demo, "rotate a certificate before your eyes", "demo --keep"
    )
    parser.add_argument(
        "dir", metavar="DIR", type=Path, nargs="?", help="new directory; default: a temporary one"
    )
    parser.add_argument("--keep", action="store_true", help="leave the directory")
    _add_token(parser)


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    run: Command = args.run
    try:
        code = run(args)
        sys.stdout.flush()
        return code
    except FactoryError as error:
        print(error, file=sys.stderr)
        if error.hint:
            print(error.hint, file=sys.stderr)
    except BrokenPipeError:  # whoever reads has read enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as a shell reports SIGPIPE
    except (sqlite3.Error, OSError) as error:
        print(f"cannot use the factory in {args.dir}: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130  # as a shell reports SIGINT
    return 1
