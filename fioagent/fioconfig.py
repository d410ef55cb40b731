"""The commands that are fioconfig's: check-in, extract, renew-cert and its like.

Names, flags and environment are fioconfig's main.go; each works as ``fioagent``
and as ``fioconfig``. The command line itself is ``cli.py``, which prints.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fioagent import __version__
from fioagent.errors import AgentError, TemporaryError
from fioagent.model import Exit, ObjectIds, sha256_hex

if TYPE_CHECKING:
    from fioagent.config.check_in import Report
    from fioagent.config.extractor import Applied
    from fioagent.configurator import Opened
    from fioagent.rootrenewal import Renewal
    from fioagent.site import Device

Environ = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Console:
    """What the command line lends: to answer, to tell, and to rotate.

    Attributes:
        say: the answer, a line.
        emit: the answer, for machines.
        note: what happens meanwhile, a line.
        complain: what went wrong, and what to do next.
        exit_of: the exit status that an error has.
    """

    say: Callable[[str], None]
    emit: Callable[[Mapping[str, object]], None]
    note: Callable[[str], None]
    complain: Callable[[AgentError, Exit, Environ], None]
    exit_of: Callable[[AgentError], Exit]


def check_in(arguments: argparse.Namespace, environ: Environ, console: Console) -> int:
    """Ask the gateway, apply, store."""
    # Imported late, as in cli.py: not every command needs TLS.
    from fioagent import configurator  # noqa: PLC0415  # see above
    from fioagent.config import check_in as act  # noqa: PLC0415  # see above

    rotation: dict[str, Any] = {}
    try:
        with configurator.opened(arguments.config, environ, console.note) as opened:
            try:
                report = act.check_in(opened.household)
                _renew_pending_roots(opened, console)
            except AgentError:
                rotation = _rotation(opened)
                raise
            rotation = _rotation(opened)
            answer = {**_answer(report), **rotation}
            problem = rotation["rotation"].get("problem")
            if problem is not None:  # a fio-rotate-certs that nothing is done by, say
                console.note(str(problem))
    except AgentError as error:
        if arguments.json:
            console.emit({"result": "failed", **_failure(error), **rotation})
        raise
    if arguments.json:
        console.emit(answer)
    else:
        console.say(str(answer["message"]))
    return Exit.HANDLER if report.applied.asked_to_exit else Exit.DONE


def extract(arguments: argparse.Namespace, environ: Environ, console: Console) -> int:
    """Files out of the stored configuration, without a network."""
    from fioagent import configurator  # noqa: PLC0415  # as in check_in
    from fioagent.config import extractor  # noqa: PLC0415  # as in check_in

    try:
        with configurator.opened(arguments.config, environ, console.note) as opened:
            applied = extractor.extract(opened.household)
    except AgentError as error:
        if arguments.json:
            console.emit({"result": "failed", **_failure(error)})
        raise
    message = "no configuration is stored" if applied is None else _told(applied)
    if arguments.json:
        console.emit({"result": "extracted", "message": message, **_files(applied)})
    else:
        console.say(message)
    if applied is None:
        return Exit.DONE
    if applied.asked_to_exit:
        return Exit.HANDLER
    return Exit.CONFIG if applied.problems else Exit.DONE


def renew_cert(arguments: argparse.Namespace, environ: Environ, console: Console) -> int:
    """A rotation by fioconfig's name for it; what its handler calls."""
    from fioagent.config.extractor import OFFLINE  # noqa: PLC0415  # as in check_in

    if environ.get(OFFLINE):
        # At boot, from a handler: nothing is rotated there. The file that asks for it is in
        # place, and the service finds it.
        console.say("noted; nothing is rotated at boot, the service does it")
        return Exit.DONE
    arguments.now = True
    from fioagent import rotatecli  # noqa: PLC0415  # it knows us

    return rotatecli.rotate(arguments, environ, console)


def renew_root(arguments: argparse.Namespace, environ: Environ, console: Console) -> int:
    """New roots of the gateway, by fioconfig's name; what its handler calls."""
    from fioagent import agent, rootrenewal  # noqa: PLC0415  # as in check_in
    from fioagent.config.extractor import OFFLINE  # noqa: PLC0415  # as in check_in
    from fioagent.config.trigger import checked_id  # noqa: PLC0415  # as in check_in

    def act(device: Device) -> Renewal | None:
        if environ.get(OFFLINE):
            rootrenewal.noted(device, request)
            return None
        return rootrenewal.asked(device, request)

    try:
        request = rootrenewal.Request(arguments.est_server, checked_id(arguments.id))
        with agent.opened(arguments.config, environ) as opened:
            renewed = opened.alone("renew-root", act)
    except AgentError as error:
        if arguments.json:
            console.emit({"result": "failed", **_failure(error)})
        raise
    if arguments.json:
        console.emit({"result": "done", **_roots(renewed)})
    elif environ.get(OFFLINE):
        console.say("noted; nothing is fetched at boot, a check-in does it")
    else:
        for line in ["done already"] if renewed is None else _renewed(renewed):
            console.say(line)
    return Exit.DONE


def _roots(renewed: Renewal | None) -> dict[str, object]:
    added, retired = (renewed.added, renewed.retired) if renewed else ((), ())
    return {
        "added": [sha256_hex(each.der) for each in added],
        "retired": [sha256_hex(each.der) for each in retired],
    }


def _renewed(renewed: Renewal) -> list[str]:
    added = [
        f"trusted now: {each.subject}, sha256 {sha256_hex(each.der)}" for each in renewed.added
    ]
    gone = [
        f"trusted no more: {each.subject}, sha256 {sha256_hex(each.der)}"
        for each in renewed.retired
    ]
    return added + gone or ["every root that is listed was trusted already"]


def _renew_pending_roots(opened: Opened, console: Console) -> None:
    """What a handler has left for check-ins; no trouble of theirs."""
    device = opened.agent.device
    if not device.disk.is_there(device.site.roots_request):
        return
    from fioagent import rootrenewal  # noqa: PLC0415  # as in check_in

    if rootrenewal.due(device) is None:
        return
    try:
        renewed = opened.agent.alone("check-in", rootrenewal.go_on)
    except AgentError as error:
        console.note(str(error))
        return
    for line in [] if renewed is None else _renewed(renewed):
        console.note(line)


def object_ids(arguments: argparse.Namespace) -> ObjectIds:
    """For a new credential in a token; empty where the command line has none."""
    given = [getattr(arguments, f"pkcs11_{kind}_ids", None) or "" for kind in ("key", "cert")]
    keys, certificates = (tuple(filter(None, each.split(","))) for each in given)
    return ObjectIds(keys, certificates)


def run_and_report(arguments: argparse.Namespace, environ: Environ, console: Console) -> int:
    """A remote action, with its result sent to the gateway."""
    from fioagent import configurator  # noqa: PLC0415  # as in check_in
    from fioagent.config import report  # noqa: PLC0415  # as in check_in

    artifacts = arguments.artifacts_dir or environ.get("ARTIFACTS") or None
    command = arguments.command_line
    if command[:1] == ["--"]:
        command = command[1:]
    if not command:
        raise AgentError("cannot run and report: no command is given")
    with configurator.opened(arguments.config, environ, console.say, outside=False) as opened:
        return report.run_and_report(
            opened.household,
            arguments.name,
            arguments.id,
            None if artifacts is None else os.path.abspath(artifacts),
            command,
        )


def version(arguments: argparse.Namespace, environ: Environ, console: Console) -> int:
    """Ours; under fioconfig's name, too."""
    del arguments, environ
    console.say(f"fioagent {__version__}")
    return Exit.DONE


def _answer(report: Report) -> dict[str, object]:
    from fioagent.config.check_in import Result  # noqa: PLC0415  # as in check_in

    match report.result:
        case Result.UNCHANGED:
            message = "the configuration is unchanged"
        case Result.NEVER_SET:
            message = "the gateway has no configuration for this device"
        case Result.STORED:
            message = f"configuration stored; {_told(report.applied)}"
        case Result.NOT_STORED:
            message = f"{_told(report.applied)}; not stored this time: {report.why}"
    return {"result": report.result.value, "message": message, **_files(report.applied)}


def _told(applied: Applied) -> str:
    said = f"{len(applied.written)} files extracted, {len(applied.removed)} removed"
    return f"{said}, {len(applied.problems)} could not be" if applied.problems else said


def _files(applied: Applied | None) -> dict[str, object]:
    if applied is None:
        return {"written": [], "removed": [], "problems": []}
    return {
        "written": list(applied.written),
        "removed": list(applied.removed),
        "problems": list(applied.problems),
    }


def _failure(error: AgentError) -> dict[str, object]:
    asked = error.retry_after_s if isinstance(error, TemporaryError) else None
    return {"message": str(error), "hint": error.hint, "retry_after_s": asked}


def _rotation(opened: Opened) -> dict[str, Any]:
    """Whether the service should rotate now, or when to look again."""
    return {"rotation": opened.agent.wanted()}


def add(
    add_parser: Callable[..., argparse.ArgumentParser],
    common: argparse.ArgumentParser,
    console: Console,
) -> None:
    """The parsers of these commands."""

    def command(
        name: str, act: Callable[[argparse.Namespace, Environ, Console], int], **texts: str
    ) -> argparse.ArgumentParser:
        parser = add_parser(name, parents=[common], **texts)
        parser.set_defaults(command=lambda given, environ: act(given, environ, console))
        return parser

    command(
        "check-in",
        check_in,
        help="ask the gateway for the configuration, apply and store it",
        description="Asks the gateway for the device's configuration; if it has changed, "
        "extracts its files, runs their handlers and stores it.",
    )
    command(
        "extract",
        extract,
        help="extract the files of the stored configuration; for the boot, without network",
        description="Extracts every file of the stored configuration and runs the handlers of "
        "those that differ. Needs no network, removes nothing, rotates nothing.",
    )
    renew = command(
        "renew-cert",
        renew_cert,
        help="as 'rotate --now' with this EST server and id; fioconfig's name for it",
        description="Rotates the certificate now, as fioconfig's command of this name.",
    )
    renew.add_argument("est_server", metavar="EST", help="EST server")
    renew.add_argument("id", metavar="ID", nargs="?", help="rotation id that operators see")
    for kind in ("key", "cert"):
        renew.add_argument(
            f"--pkcs11-{kind}-ids",
            metavar="IDS",
            help="object ids to choose from, for keys in a token, "
            f"e.g. --pkcs11-{kind}-ids {'01,07' if kind == 'key' else '03,09'}",
        )
    root = command(
        "renew-root",
        renew_root,
        help="trust the roots that this EST server lists, as far as trusted roots vouch for them",
        description="Adds the new roots in the EST server's cacerts that a root trusted already "
        "has signed, and retires those not listed, once the gateway was reached without them.",
    )
    root.add_argument("est_server", metavar="EST", help="EST server")
    root.add_argument("id", metavar="ID", help="id that operators see; done once")
    run = command(
        "run-and-report",
        run_and_report,
        help="run a remote action and report its result to the gateway",
        description="Runs a command; its output, its result and the files that it leaves in "
        "the artifacts directory are sent to the gateway as a test.",
    )
    run.add_argument("--name", required=True, help="4 to 16 characters, e.g. --name diag")
    run.add_argument(
        "--id",
        default="",
        help="15 to 48 characters (default: the gateway's), e.g. --id action-0123456789",
    )
    run.add_argument(
        "--artifacts-dir",
        metavar="DIR",
        help="files to send (default: ARTIFACTS), e.g. --artifacts-dir /tmp/diag",
    )
    run.add_argument("command_line", metavar="COMMAND", nargs=argparse.REMAINDER)
    command("version", version, help="print the version", description="Prints the version.")
