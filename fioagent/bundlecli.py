"""fioagent support-bundle: one file for whoever helps from afar. Parser, and what it calls."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from typing import Final

from fioagent import doctorcli, launch
from fioagent.errors import AgentError
from fioagent.fioconfig import Console
from fioagent.model import Exit

Environ = Mapping[str, str]
_DESCRIPTION: Final = (
    "Writes one file (tar.gz, for us alone to read) with what a person who helps from afar needs: "
    "status, log, doctor's findings, settings, versions, certificates, modes of files, units. "
    "Private keys, PINs, passwords and values of the configuration are not in it."
)


def run(arguments: argparse.Namespace, environ: Environ, console: Console) -> int:
    """The file, or why there is none."""
    # Imported late, as in cli.py: not every command needs what is gathered.
    from fioagent import bundle  # noqa: PLC0415  # see above

    path = os.path.abspath(arguments.file)
    try:
        bundle.require_new(path)
        looked = doctorcli.findings(
            arguments.config, environ, arguments.limit, offline=arguments.offline
        )
        order = bundle.Order(tuple(arguments.config), environ, launch.program())
        content, left_out = bundle.made(order, list(looked))
        bundle.write(path, content)
    except AgentError as error:
        if arguments.json:
            code = int(console.exit_of(error))
            told = {"message": str(error), "hint": error.hint}
            console.emit({"result": "failed", "exit": code, **told})
        raise
    if arguments.json:
        said = {"result": "written", "exit": 0, "file": path, "bytes": len(content)}
        console.emit({**said, "left_out": left_out})
        return Exit.DONE
    console.say(f"{path}, {len(content) // 1024 + 1} KiB; look into it with: tar -tzf {path}")
    for name in left_out:
        console.say(f"left out, because a secret was in it: {name}")
    return Exit.DONE


def add(
    add_parser: Callable[..., argparse.ArgumentParser],
    common: argparse.ArgumentParser,
    console: Console,
) -> None:
    """The parser of this command."""
    parser = add_parser(
        "support-bundle",
        parents=[common],
        help="one file for whoever helps from afar, without secrets",
        description=_DESCRIPTION,
    )
    parser.add_argument("file", metavar="FILE", help="to be written, e.g. /tmp/device.tar.gz")
    doctorcli.add_options(parser)
    parser.set_defaults(command=lambda given, environ: run(given, environ, console))
