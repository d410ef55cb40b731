"""argv to one call to an exit code; the only module of the agent that prints.

The answer goes to stdout, trouble to stderr: a line that begins with "cannot",
and a line that says what to do next. Exit codes are in ``model.Exit``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from fioagent import (
    __version__,
    bundlecli,
    doctorcli,
    estcli,
    fioconfig,
    launch,
    log,
    stopping,
    trustcli,
)
from fioagent.errors import AgentError, exit_of
from fioagent.log import Log
from fioagent.model import Exit

if TYPE_CHECKING:
    from fioagent.agent import Agent
    from fioagent.rotation.ledger import Progress, Watch
    from fioagent.rotation.rotator import Outcome

_EPILOG = """\
exit status: 0 done or nothing to do, 1 failed and the old credential is live,
75 try again later (the rotation stays open), 78 this device needs a person first,
2 wrong use of the command line, 123 a handler of the configuration has ended with it.
"""


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run one command; its exit code."""
    arguments = _parser().parse_args(argv)
    environ = os.environ if environ is None else environ
    command: Callable[[argparse.Namespace, Mapping[str, str]], int] = arguments.command
    try:
        code = command(arguments, _environ(arguments, environ))
    except AgentError as error:
        code = exit_of(error)
        _complain(error, code, environ)
    except KeyboardInterrupt:
        _note("fioagent: interrupted; the same command may be given again")
        code = Exit.TRY_AGAIN
    return int(code)


def _rotate(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    return _once(
        arguments,
        environ,
        lambda opened, watch: opened.rotate(
            now=arguments.now,
            est_url=arguments.est_server,
            ids=fioconfig.object_ids(arguments),
            rotation_id=arguments.id,
            watch=watch,
        ),
    )


def _once(
    arguments: argparse.Namespace,
    environ: Mapping[str, str],
    act: Callable[[Agent, Watch], Outcome],
) -> int:
    """One thing done with the device's agent, told as it goes."""
    # Imported late: "fioagent --help" needs none of it.
    from fioagent import agent, narration, words  # noqa: PLC0415  # see above

    started, journal = time.monotonic(), Log(environ)

    def watch(done: Progress) -> None:
        elapsed = time.monotonic() - started
        if journal.is_journal:
            narration.phase(journal, done)
        if arguments.json:
            _emit(words.progress_json(done, elapsed))
        elif not journal.is_journal:
            _say("\n".join(words.progress(done, elapsed)))

    try:
        with stopping.by_sigterm(), agent.opened(arguments.config, environ) as opened:
            outcome = act(opened, watch)
    except AgentError as error:
        if arguments.json:
            _emit_end("not-begun", exit_of(error), str(error), error.hint)
        raise
    return _tell_end(arguments, environ, outcome)


def _tell_end(arguments: argparse.Namespace, environ: Mapping[str, str], outcome: Outcome) -> Exit:
    from fioagent import narration, words  # noqa: PLC0415  # as in _once

    code, journal = words.EXIT[outcome.result], Log(environ)
    if arguments.json:
        next_at = words.next_try(outcome.rotation)
        _emit_end(outcome.result.value, code, outcome.message, outcome.hint, next_at)
    if journal.is_journal:
        narration.end(journal, outcome)
    elif code is not Exit.DONE:
        _complain(AgentError(outcome.message, hint=outcome.hint), code, environ)
    elif not arguments.json:
        for line in words.outcome(outcome):
            _say(line)
    return code


def _recover(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    return _once(arguments, environ, lambda opened, watch: opened.recover(watch))


def _cancel(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    return _once(arguments, environ, lambda opened, watch: opened.cancel(watch))


def _status(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from fioagent import agent, words  # noqa: PLC0415  # as in _once

    with agent.opened(arguments.config, environ) as opened:
        now = opened.status()
    if arguments.json:
        _emit(words.status_json(now))
    else:
        for line in words.status(now):
            _say(line)
    return Exit.DONE if now.problem is None else Exit.CONFIG


def _daemon(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    environ = launch.environment(arguments, environ)
    if not arguments.check:
        launch.become_resident(arguments, environ)
    from fioagent import agent  # noqa: PLC0415  # as in _once

    try:
        with agent.opened(arguments.config, environ) as opened:
            interval_s = opened.device.settings.daemon_interval.total_seconds()
    except AgentError as error:
        if arguments.json:
            _emit_end("needs-person", exit_of(error), str(error), error.hint)
        raise
    message = "the configuration can be used"
    if arguments.json:
        _emit({"event": "end", "result": "ready", "message": message, "interval_s": interval_s})
    else:
        _say(message)
    return Exit.DONE


def _settings(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from fioagent import agent, words  # noqa: PLC0415  # as in _once

    rows = agent.settings_shown(environ)
    if arguments.json:
        _emit({str(row["key"]): row for row in rows})
    else:
        for line in words.settings(rows):
            _say(line)
    return Exit.DONE


def _emit(value: Mapping[str, object]) -> None:
    _say(json.dumps(value))


def _say(text: str) -> None:
    """Whoever reads may go away ("| head"), or be full; a rotation goes on all the same."""
    try:
        print(text, flush=True)
    except OSError:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # until the exit


def _emit_end(
    result: str, code: Exit, message: str, hint: str | None, next_at: str | None = None
) -> None:
    said = {"result": result, "exit": int(code), "message": message, "hint": hint}
    _emit({"event": "end", **said, "next_at": next_at})


def _note(text: str) -> None:
    """What happens meanwhile; systemd's journal takes it from there, unless it is away.

    There with a priority (sd-daemon(3)), which no name or output in ``text`` can choose.
    """
    if Log(os.environ).is_journal:
        text = f"<{log.WARNING if text.startswith('cannot ') else log.INFO}>{text}"
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # as above


def _complain(error: AgentError, code: Exit, environ: Mapping[str, str]) -> None:
    journal = Log(environ)
    if journal.is_journal:
        from fioagent import narration  # noqa: PLC0415  # as in _once

        narration.trouble(journal, error, code)
        return
    _note(f"fioagent: {error}")
    if error.hint is not None:
        _note(f"  {error.hint}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fioagent",
        description="Configuration and TLS client certificate of a Foundries LmP device.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fioagent {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    for place, default in ((parser, []), (common, argparse.SUPPRESS)):
        # fioconfig takes these before the command; a command of ours behind it, too.
        _add_places(place, default)
    common.add_argument(
        "--json", action="store_true", help="one JSON object a line, e.g. fioagent status --json"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_rotate(commands.add_parser, common)
    launch.add(commands.add_parser, common).set_defaults(command=_daemon)
    recover = commands.add_parser(
        "recover",
        parents=[common],
        help="finish what a power cut has left half-done; for the boot, without network",
        description="Finishes a commit or a way back that was cut in half, from the journal "
        "alone. Needs no network, waits for nothing, may be run any number of times.",
    )
    recover.set_defaults(command=_recover)
    cancel = commands.add_parser(
        "cancel",
        parents=[common],
        help="give up the open rotation, as long as the gateway does not know of it",
        description="Gives up the open rotation; the live credential is as it was. Refused "
        "once the gateway may know the new key: from there it can only go forward.",
    )
    cancel.set_defaults(command=_cancel)
    status = commands.add_parser(
        "status",
        parents=[common],
        help="the live certificate, the open rotation, the last result",
        description="Shows what is live and what is under way. Changes nothing.",
    )
    status.set_defaults(command=_status)
    _add_settings(commands.add_parser)
    lent = fioconfig.Console(_say, _emit, _note, exit_of, _rotate)
    for others in (fioconfig, estcli, trustcli, doctorcli, bundlecli):
        others.add(commands.add_parser, common, lent)
    return parser


def _add_settings(add: Callable[..., argparse.ArgumentParser]) -> None:
    settings = add(
        "settings",
        help="every setting with its value, where that is from, and what it means",
        description="Shows every setting: value, file or variable that sets it, unit, meaning. "
        "Needs no registered device.",
    )
    settings.add_argument(
        "--json", action="store_true", help="one JSON object, e.g. fioagent settings --json"
    )
    settings.set_defaults(command=_settings)


def _add_places(parser: argparse.ArgumentParser, default: list[str] | str) -> None:
    parser.add_argument(
        "-c",
        "--config",
        action="append",
        default=default,
        metavar="PATH",
        help="sota.toml or a directory of *.toml, in search order; may be repeated "
        "(default: SOTA_DIR, else the paths of aktualizr-lite), e.g. -c /var/sota/sota.toml",
    )
    parser.add_argument(
        "-s",
        "--secrets-dir",
        default=argparse.SUPPRESS,
        metavar="DIR",
        help="where configuration files are extracted to (default: SECRETS_DIR, else "
        "/var/run/secrets), e.g. -s /run/secrets",
    )
    parser.add_argument(
        "--unsafe-handlers",
        action="store_true",
        default=argparse.SUPPRESS,
        help="run handlers from anywhere (default: UNSAFE_CALLBACKS), e.g. --unsafe-handlers "
        "check-in",
    )


def _environ(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Mapping[str, str]:
    """What options say counts as said by the environment: handlers call us with it again."""
    said = {}
    if "secrets_dir" in arguments:
        said["SECRETS_DIR"] = arguments.secrets_dir
    if "unsafe_handlers" in arguments:
        said["UNSAFE_CALLBACKS"] = "true"
    return {**environ, **said}


def _add_rotate(
    add: Callable[..., argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    rotate = add(
        "rotate",
        parents=[common],
        help="rotate the certificate, or go on with a rotation that is open",
        description="Rotates the client certificate if it is due, or goes on with an open "
        "rotation. Safe to interrupt and to repeat at any moment.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    rotate.add_argument(
        "--now", action="store_true", help="whether due or not, e.g. fioagent rotate --now"
    )
    rotate.add_argument(
        "--est-server",
        metavar="URL",
        help="EST server (default: est.server of the settings, else the operator's last "
        "trigger), e.g. --est-server https://est.example:8443/.well-known/est",
    )
    rotate.add_argument(
        "--id",
        metavar="ID",
        help="rotation id that operators see (default: certs-<unix time>), "
        "e.g. --id certs-1763683200",
    )
    rotate.set_defaults(command=_rotate)
