"""fioagent rotate, recover and cancel: argv -> one act, told as it goes -> exit code."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from fioagent import fioconfig, stopping
from fioagent.errors import AgentError
from fioagent.fioconfig import Console
from fioagent.log import Log
from fioagent.model import Exit

if TYPE_CHECKING:
    from fioagent.agent import Agent
    from fioagent.rotation.ledger import Progress, Watch
    from fioagent.rotation.machine import Rotation
    from fioagent.rotation.rotator import Outcome

Environ = Mapping[str, str]
_WORST_FIRST: Final = (Exit.CONFIG, Exit.FAILED, Exit.TRY_AGAIN)


def rotate(arguments: argparse.Namespace, environ: Environ, console: Console) -> int:
    """The rotation, or with ``--dry-run`` all of it that changes nothing."""
    if getattr(arguments, "dry_run", False):  # renew-cert has none
        return _rehearse(arguments, environ, console)
    return _once(
        arguments,
        environ,
        console,
        lambda opened, watch: opened.rotate(
            now=arguments.now,
            est_url=arguments.est_server,
            ids=fioconfig.object_ids(arguments),
            rotation_id=arguments.id,
            watch=watch,
        ),
    )


def _recover(arguments: argparse.Namespace, environ: Environ, console: Console) -> int:
    return _once(arguments, environ, console, lambda opened, watch: opened.recover(watch))


def _cancel(arguments: argparse.Namespace, environ: Environ, console: Console) -> int:
    return _once(arguments, environ, console, lambda opened, watch: opened.cancel(watch))


class _Teller:
    """Says what is reached, in the form that was asked for.

    Attributes:
        rotation: as it stood with what was said last; None before anything was.
    """

    def __init__(self, arguments: argparse.Namespace, environ: Environ, console: Console) -> None:
        from fioagent import terminal, words  # noqa: PLC0415  # as in _once

        self.rotation: Rotation | None = None
        self.journal = Log(environ)
        self._json: bool = arguments.json
        self._console = console
        self._started = time.monotonic()
        plain = getattr(arguments, "plain", False) or self._json or self.journal.is_journal
        self.line = terminal.WorkLine(sys.stdout, environ, wanted=not plain)
        self.line.doing(words.PREFLIGHT)

    def watch(self, done: Progress) -> None:
        """``Watch``: a phase is reached, or is gone on from."""
        from fioagent import narration, words  # noqa: PLC0415  # as in _once

        elapsed, first = time.monotonic() - self._started, self.rotation is None
        self.rotation = done.rotation
        self.line.doing(words.under_way(done.rotation))
        if self.journal.is_journal:
            narration.phase(self.journal, done)
        if self._json:
            self._console.emit(words.progress_json(done, elapsed))
        elif not self.journal.is_journal:
            header = [words.SAFE, words.HEADINGS] if first else []
            with self.line.aside():
                self._console.say("\n".join([*header, *words.progress(done, elapsed)]))


def _once(
    arguments: argparse.Namespace,
    environ: Environ,
    console: Console,
    act: Callable[[Agent, Watch], Outcome],
) -> int:
    """One thing done with the device's agent, told as it goes."""
    # Imported late: "fioagent --help" needs none of it.
    from fioagent import agent, words  # noqa: PLC0415  # see above

    teller = _Teller(arguments, environ, console)
    try:
        with (
            stopping.by_sigterm(),
            teller.line,
            agent.opened(arguments.config, environ) as opened,
        ):
            outcome = act(opened, teller.watch)
    except AgentError as error:
        if arguments.json:
            code = console.exit_of(error)
            console.emit(words.end_json("not-begun", code, str(error), error.hint))
        raise
    except KeyboardInterrupt:
        return _interrupted(arguments, environ, console, teller)
    return _tell_end(arguments, environ, console, outcome)


def _interrupted(
    arguments: argparse.Namespace, environ: Environ, console: Console, teller: _Teller
) -> Exit:
    """Control-C, or the service that stops: as safe as the plug, and it is said what goes on."""
    from fioagent import words  # noqa: PLC0415  # as in _once

    said, left = words.INTERRUPTED, words.interrupted(teller.rotation)
    if arguments.json:
        end = words.end_json("interrupted", Exit.TRY_AGAIN, said, left, teller.rotation)
        console.emit(end)
    if teller.journal.is_journal:
        console.note(f"fioagent: {said}; {left}")
    else:
        console.complain(AgentError(said, hint=left), Exit.TRY_AGAIN, environ)
    return Exit.TRY_AGAIN


def _tell_end(
    arguments: argparse.Namespace, environ: Environ, console: Console, outcome: Outcome
) -> Exit:
    from fioagent import narration, terminal, words  # noqa: PLC0415  # as in _once

    code, journal = words.EXIT[outcome.result], Log(environ)
    if arguments.json:
        said = (outcome.result.value, code, outcome.message, outcome.hint)
        console.emit(words.end_json(*said, outcome.rotation))
    if journal.is_journal:
        narration.end(journal, outcome)
        return code
    if code is not Exit.DONE:
        console.complain(AgentError(outcome.message, hint=outcome.hint), code, environ)
    if not arguments.json:
        for line in words.outcome(outcome):
            console.say("\n".join(terminal.lines(sys.stdout, line)))
    return code


def _rehearse(arguments: argparse.Namespace, environ: Environ, console: Console) -> int:
    """Everything that changes nothing; the exit status is that of the worst that was found."""
    from fioagent import agent, words  # noqa: PLC0415  # as in _once

    failed: list[Exit] = []
    try:
        with agent.opened(arguments.config, environ) as opened:
            checks = opened.rehearse(est_url=arguments.est_server, rotation_id=arguments.id)
            for check in checks:
                if check.error is not None:
                    failed.append(console.exit_of(check.error))
                if arguments.json:
                    console.emit(words.checked_json(check))
                else:
                    console.say("\n".join(words.checked(check)))
    except AgentError as error:
        if arguments.json:
            code = console.exit_of(error)
            console.emit(words.end_json("not-begun", code, str(error), error.hint))
        raise
    code = next((each for each in _WORST_FIRST if each in failed), Exit.DONE)
    result, said = words.rehearsed(len(failed))
    if arguments.json:
        console.emit(words.end_json(result, code, said, None))
    else:
        console.say(said)
    return code


def add(
    add_parser: Callable[..., argparse.ArgumentParser],
    common: argparse.ArgumentParser,
    console: Console,
    epilog: str,
) -> None:
    """The parsers of these commands."""
    _add_rotate(add_parser, common, console, epilog)
    recover = add_parser(
        "recover",
        parents=[common],
        help="finish what a power cut has left half-done; for the boot, without network",
        description="Finishes a commit or a way back that was cut in half, from the journal "
        "alone. Needs no network, waits for nothing, may be run any number of times.",
    )
    recover.set_defaults(command=lambda given, environ: _recover(given, environ, console))
    cancel = add_parser(
        "cancel",
        parents=[common],
        help="give up the open rotation, as long as the gateway does not know of it",
        description="Gives up the open rotation; the live credential is as it was. Refused "
        "once the gateway may know the new key: from there it can only go forward.",
    )
    cancel.set_defaults(command=lambda given, environ: _cancel(given, environ, console))


def _add_rotate(
    add_parser: Callable[..., argparse.ArgumentParser],
    common: argparse.ArgumentParser,
    console: Console,
    epilog: str,
) -> None:
    parser = add_parser(
        "rotate",
        parents=[common],
        help="rotate the certificate, or go on with a rotation that is open",
        description="Rotates the client certificate if it is due, or goes on with an open "
        "rotation. Safe to interrupt and to repeat at any moment.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--now", action="store_true", help="whether due or not, e.g. fioagent rotate --now"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="only look at what a rotation would meet, and change nothing, "
        "e.g. fioagent rotate --dry-run",
    )
    parser.add_argument(
        "--plain",
        action="store_true",
        help="no line that changes in its place, for screen readers, "
        "e.g. fioagent rotate --now --plain",
    )
    parser.add_argument(
        "--est-server",
        metavar="URL",
        help="EST server (default: est.server of the settings, else the operator's last "
        "trigger), e.g. --est-server https://est.example:8443/.well-known/est",
    )
    parser.add_argument(
        "--id",
        metavar="ID",
        help="rotation id that operators see (default: certs-<unix time>), "
        "e.g. --id certs-1763683200",
    )
    parser.set_defaults(command=lambda given, environ: rotate(given, environ, console))
