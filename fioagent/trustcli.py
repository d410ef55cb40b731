"""fioagent trust: the roots that servers are trusted by. Parsers, and what they call."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from fioagent.errors import AgentError
from fioagent.fioconfig import Console
from fioagent.model import Exit, sha256_hex

if TYPE_CHECKING:
    from fioagent.trust import Root
    from fioagent.x509 import Certificate

Environ = Mapping[str, str]
_DESCRIPTION: Final = (
    "The roots in the trust file (import.tls_cacert_path) that gateway and EST server are "
    "trusted by: looked at, added to, and taken out of, never so that the gateway is lost."
)


def run(arguments: argparse.Namespace, environ: Environ, console: Console) -> int:
    """One look or one change."""
    # Imported late, as in cli.py: not every command needs TLS.
    from fioagent import agent, trust  # noqa: PLC0415  # see above

    try:
        with agent.opened(arguments.config, environ) as opened:
            if arguments.act == "show":
                said, fields = _shown(opened.alone("trust", trust.looked_at))
            elif arguments.act == "add":
                said, fields = _added(opened.alone("trust", lambda d: trust.add(d, arguments.file)))
            else:
                gone = opened.alone("trust", lambda d: trust.retire(d, arguments.sha256))
                said, fields = _retired(gone)
    except AgentError as error:
        if arguments.json:
            code = int(console.exit_of(error))
            told = {"message": str(error), "hint": error.hint}
            console.emit({"result": "failed", "exit": code, **told})
        raise
    if arguments.json:
        console.emit({"exit": 0, **fields})
    else:
        for line in said:
            console.say(line)
    return Exit.DONE


def _shown(roots: list[Root]) -> tuple[list[str], dict[str, object]]:
    lines: list[str] = []
    rows: list[dict[str, object]] = []
    for root in roots:
        found = "gateway reached under it" if root.reached else f"not reached: {root.why_not}"
        lines += [f"{root.certificate.subject}, until {root.certificate.not_after:%Y-%m-%d}"]
        lines += [f"  sha256 {root.sha256}", f"  {found}"]
        rows.append({**_row(root.certificate), "reached": root.reached, "why_not": root.why_not})
    return lines, {"result": "shown", "roots": rows}


def _row(root: Certificate) -> dict[str, object]:
    return {"subject": root.subject, **root.described()}


def _added(new: list[Certificate]) -> tuple[list[str], dict[str, object]]:
    lines = [f"added {root.subject}, sha256 {sha256_hex(root.der)}" for root in new]
    rows = [_row(root) for root in new]
    said = lines or ["nothing to add: every root in it is trusted already"]
    return said, {"result": "added", "roots": rows}


def _retired(gone: Certificate | None) -> tuple[list[str], dict[str, object]]:
    if gone is None:
        return ["nothing to retire: no such root is trusted"], {"result": "retired", "roots": []}
    said = f"retired {gone.subject}; the gateway was reached without it"
    return [said], {"result": "retired", "roots": [_row(gone)]}


def add(
    add_parser: Callable[..., argparse.ArgumentParser],
    common: argparse.ArgumentParser,
    console: Console,
) -> None:
    """The parsers of these commands."""
    trust = add_parser(
        "trust",
        help="the roots that servers are trusted by: show, add, retire",
        description=_DESCRIPTION,
    )
    acts = trust.add_subparsers(required=True, metavar="ACT", dest="act")
    for name, text in (
        ("show", "every root, and whether the gateway is reached under it alone"),
        ("add", "trust the roots in a PEM file too"),
        ("retire", "trust a root no more, once the gateway was reached without it"),
    ):
        parser = acts.add_parser(name, parents=[common], help=text, description=_DESCRIPTION)
        parser.set_defaults(command=lambda given, environ: run(given, environ, console))
        if name == "add":
            parser.add_argument("file", metavar="FILE", help="PEM certificates")
        elif name == "retire":
            parser.add_argument(
                "sha256", metavar="SHA256", help="as 'fioagent trust show' tells it"
            )
