"""fioagent est: an EST server is tried, and its answers explained. Parsers, and what they call."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from fioagent.errors import AgentError, TemporaryError
from fioagent.fioconfig import Console
from fioagent.model import Exit

if TYPE_CHECKING:
    from fioagent.site import Device
    from fioagent.trial import Report

Environ = Mapping[str, str]
_DESCRIPTION: Final = (
    "Asks the EST server what a rotation asks it, with the device's certificate and settings, "
    "and explains the answer. Nothing on the device is changed."
)


def run(arguments: argparse.Namespace, environ: Environ, console: Console) -> int:
    """One question to the server."""
    # Imported late, as in cli.py: not every command needs TLS.
    from fioagent import agent, trial  # noqa: PLC0415  # see above

    questions: dict[str, Callable[[Device, str], Report]] = {
        "cacerts": trial.cacerts,
        "csrattrs": trial.csrattrs,
        "reenroll": trial.reenroll,
    }
    try:
        with agent.opened(arguments.config, environ) as opened:
            url = trial.server(opened.device, arguments.est_server)
            report = questions[arguments.question](opened.device, url)
    except AgentError as error:
        if arguments.json:
            console.emit(_failure(error, console.exit_of(error)))
        raise
    if arguments.json:
        console.emit({"result": "answered", "exit": 0, "server": url, **report.fields})
    else:
        for line in report.lines:
            console.say(line)
    return Exit.DONE


def _failure(error: AgentError, code: Exit) -> dict[str, object]:
    asked = error.retry_after_s if isinstance(error, TemporaryError) else None
    said = {"message": str(error), "hint": error.hint, "retry_after_s": asked}
    return {"result": "failed", "exit": int(code), **said}


def add(
    add_parser: Callable[..., argparse.ArgumentParser],
    common: argparse.ArgumentParser,
    console: Console,
) -> None:
    """The parsers of these commands."""
    est = add_parser(
        "est",
        help="try an EST server without touching the device",
        description=_DESCRIPTION,
    )
    questions = est.add_subparsers(required=True, metavar="QUESTION", dest="question")
    for name, text in (
        ("cacerts", "the CA's certificates, and what each is good for here"),
        ("csrattrs", "what the server wants of a request, and what is made of it"),
        ("reenroll", "a certificate for a key in memory, judged and thrown away"),
    ):
        parser = questions.add_parser(name, parents=[common], help=text, description=_DESCRIPTION)
        parser.add_argument(
            "--est-server",
            metavar="URL",
            help="EST server (default: est.server of the settings, else the operator's last "
            "trigger), e.g. --est-server https://est.example:8443/.well-known/est",
        )
        parser.set_defaults(command=lambda given, environ: run(given, environ, console))
        if name == "reenroll":
            parser.add_argument(
                "--dry-run",
                action="store_true",
                required=True,
                help="has to be given: the CA issues a certificate that nobody uses, "
                "e.g. fioagent est reenroll --dry-run",
            )
