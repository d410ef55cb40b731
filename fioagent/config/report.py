"""``run-and-report``: a remote action, with its output and result sent to the gateway.

fioconfig fiotest/api.go, exec.go: POST /tests, run, PUT the result, then PUT
each artifact where the gateway says. The gateway shows it as a test run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Final

from fioagent.config.household import Household
from fioagent.errors import AgentError, ConfigError, PeerError

NAME: Final = re.compile(r"[a-z0-9_-]{4,16}")
IDENTIFIER: Final = re.compile(r"[A-Za-z0-9_-]{15,48}")
OUTPUT: Final = "console.log"
MAX_OUTPUT: Final = 4 * 1024 * 1024  # bytes
MAX_ARTIFACT: Final = 64 * 1024 * 1024  # bytes


def run_and_report(
    household: Household,
    name: str,
    identifier: str,
    artifacts: str | None,
    command: Sequence[str],
) -> int:
    """The command's exit status, once its result has reached the gateway.

    Args:
        household: whose credential reports.
        name: of the action, as operators see it.
        identifier: of this run; empty for one of the gateway's.
        artifacts: a directory whose files are sent too; the command finds it in ARTIFACTS.
        command: program and arguments; its output is told and sent as console.log.

    Raises:
        ConfigError: a name that no gateway takes, or a program that cannot be started.
        AgentError: the gateway could not be told; before the run, or after it.
    """
    _require_fit(name, identifier)
    device = household.device
    gateway = device.sessions.gateway(device.live_credential())
    identifier = gateway.begin_test(name, identifier)
    if not IDENTIFIER.fullmatch(identifier):
        raise PeerError("cannot begin the test: the gateway did not answer with its id")
    output = bytearray()

    def keep(chunk: bytes) -> None:
        output.extend(chunk[: MAX_OUTPUT - len(output)])

    environ = {} if artifacts is None else {"ARTIFACTS": artifacts}
    try:
        status = household.programs.run(
            command, environ, limit_s=None, say=household.say, keep=keep
        )
    except AgentError as error:
        gateway.end_test(identifier, passed=False, details=str(error), artifacts=[])
        raise
    contents = {**_files(household, artifacts), OUTPUT: bytes(output)}
    uploads = gateway.end_test(
        identifier,
        passed=status == 0,
        details="" if status == 0 else f"{command[0]} ended with status {status}",
        artifacts=sorted(contents),
    )
    for artifact, content in contents.items():
        if artifact in uploads:
            gateway.send_artifact(uploads[artifact], content)
    return status


def _require_fit(name: str, identifier: str) -> None:
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"cannot use the name {name!r}", hint="4 to 16 lower case letters, digits, '-' and '_'"
        )
    if identifier and not IDENTIFIER.fullmatch(identifier):
        raise ConfigError(
            f"cannot use the id {identifier!r}", hint="15 to 48 letters, digits, '-' and '_'"
        )


def _files(household: Household, directory: str | None) -> dict[str, bytes]:
    """Regular files of the directory by name."""
    if directory is None:
        return {}
    disk = household.device.disk
    found = {}
    for name in disk.names(directory):
        path = os.path.join(directory, name)
        if disk.is_directory(path):
            continue
        try:
            content = disk.read(path)
        except ConfigError as error:  # the result is worth more than one file
            household.say(str(error))
            continue
        if len(content) > MAX_ARTIFACT:
            household.say(f"{path} is not sent: longer than {MAX_ARTIFACT} bytes")
            continue
        found[name] = content
    return found
