"""What the commands of ``fioagent-factory`` have in common: their arguments, how they are told."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from fioagent.factory.servers.server import Address

Command = Callable[[argparse.Namespace], int]
Commands = argparse._SubParsersAction  # noqa: SLF001  # argparse has no public name for it


def address(text: str) -> Address:
    """``127.0.0.1:0`` or ``[::1]:0``."""
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is not ADDR:PORT, like 127.0.0.1:0")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise argparse.ArgumentTypeError(f"{text!r}: write an IPv6 address as [::1]:0")
    return host.strip("[]"), int(port)


def named_file(text: str) -> tuple[str, Path]:
    """``name=path``, or a path whose last part is the name."""
    name, equals, path = text.partition("=")
    if not equals:
        return Path(text).name, Path(text)
    if not name or not path:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a path nor name=path")
    return name, Path(path)


def command(
    commands: Commands[argparse.ArgumentParser],
    name: str,
    run: Command,
    about: str,
    example: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=about, description=about, epilog=f"example: fioagent-factory {example}"
    )
    parser.set_defaults(run=run)
    return parser


def add_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", metavar="DIR", type=Path, help="the factory's directory")


def add_uuid(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uuid", metavar="UUID", help="the device's uuid")


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """As fioctl shows one."""
    lines = [titles, ["-" * len(title) for title in titles], *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
