"""argv to one call to an exit code; the only module of the agent that prints.

The answer goes to stdout, trouble to stderr: a line that begins with "cannot",
and a line that says what to do next. Exit codes are in ``model.Exit``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence

from fioagent import (
    __version__,
    bundlecli,
    doctorcli,
    estcli,
    fioconfig,
    launch,
    log,
    rotatecli,
    statuscli,
    terminal,
    trustcli,
)
from fioagent.errors import AgentError, exit_of
from fioagent.log import Log
from fioagent.model import Exit

_EPILOG = """\
exit status: 0 done or nothing to do, 1 failed and the old credential is live,
75 try again later (the rotation stays open), 78 this device needs a person first,
2 wrong use of the command line, 123 a handler of the configuration has ended with it.
"""


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run one command; its exit code."""
    arguments = _parser().parse_args(argv)
    environ = os.environ if environ is None else environ
    terminal.speak_plainly(environ)
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


def _daemon(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    environ = launch.environment(arguments, environ)
    if not arguments.check:
        launch.become_resident(arguments, environ)
    # Imported late: "fioagent --help" needs none of it.
    from fioagent import agent  # noqa: PLC0415  # see above

    try:
        with agent.opened(arguments.config, environ) as opened:
            interval_s = opened.device.settings.daemon_interval.total_seconds()
    except AgentError as error:
        if arguments.json:
            from fioagent import words  # noqa: PLC0415  # as above

            _emit(words.end_json("needs-person", exit_of(error), str(error), error.hint))
        raise
    message = "the configuration can be used"
    if arguments.json:
        _emit({"event": "end", "result": "ready", "message": message, "interval_s": interval_s})
    else:
        _say(message)
    return Exit.DONE


def _settings(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from fioagent import agent, words  # noqa: PLC0415  # as in _daemon

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
        from fioagent import narration  # noqa: PLC0415  # as in _daemon

        narration.trouble(journal, error, code)
        return
    for line in terminal.lines(sys.stderr, f"fioagent: {error}"):
        _note(line)
    if error.hint is not None:
        for line in terminal.lines(sys.stderr, f"  {error.hint}"):
            _note(line)


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
    lent = fioconfig.Console(_say, _emit, _note, _complain, exit_of)
    rotatecli.add(commands.add_parser, common, lent, _EPILOG)
    launch.add(commands.add_parser, common).set_defaults(command=_daemon)
    statuscli.add(commands.add_parser, common, lent)
    _add_settings(commands.add_parser)
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
