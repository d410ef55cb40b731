"""Files out of the configuration, and the handlers of those that have changed.

``extract`` does it at boot from the stored copy: offline, nothing is removed,
nothing is rotated. A check-in does it with what the gateway has sent. A handler
is started once for a change, even if this process dies in between: what is due
is written down before the first file changes, and struck out before each start.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fioagent.config import document, extraction, stored
from fioagent.config.extraction import Call, Value
from fioagent.config.household import Household, keys_at_hand
from fioagent.config.stored import Memory
from fioagent.errors import AgentError, ConfigError, NotBegunError

# A handler that asks its caller to give up: fioconfig ends with it too.
ASKS_TO_EXIT: Final = 123
# For what handlers call of us: told by "extract", where nothing is rotated.
OFFLINE: Final = "FIOAGENT_OFFLINE"
_LONGEST_AT_BOOT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Applied:
    """What has become of a configuration.

    Attributes:
        written: names of files that are new or differ.
        removed: names of files that are gone.
        problems: files that could not be, a line for each.
        complete: whether trying again would change nothing.
        asked_to_exit: a handler ended with status 123.
    """

    written: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    complete: bool = True
    asked_to_exit: bool = False


def extract(household: Household) -> Applied | None:
    """All files of the stored copy; None where none is stored.

    Without a key that can be used the values that need none are extracted all the
    same: the technician's way in may be among them.

    Raises:
        TemporaryError: a check-in does it right now.
        ConfigError: the copy cannot be used.
    """
    device = household.device
    copy = device.disk.read_if_there(device.site.config)
    if copy is None:
        return None
    try:
        keys = keys_at_hand(device)
    except ConfigError as error:
        household.say(str(error))
        keys = []
    values = document.values(copy, keys, device.site.config)
    with contextlib.ExitStack() as held:
        try:
            device.disk.make_directory(device.site.state_directory)
            held.enter_context(device.disk.lock(household.lock, "extract"))
        except ConfigError as error:  # the files are in memory; a full disk must not keep them
            household.say(str(error))
        return apply(household, values, (), offline=True)


def apply(
    household: Household, wanted: Sequence[Value], previous: Sequence[Value], *, offline: bool
) -> Applied:
    """The files are as ``wanted``, and every handler that is due has been started.

    What fails for one file does not hold up the others.
    """
    plan = extraction.plan(wanted, previous, _present(household, [*wanted, *previous]))
    memory = _memory(household)
    due = stored.together(memory.due, plan.calls)
    if due != memory.due:
        memory = _remember(household, memory, due)
    written, removed, problems = [], [], []
    # Removed first: a name may become a directory.
    for name in plan.removals:
        try:
            household.secrets.remove(name)
            removed.append(name)
        except ConfigError as error:
            problems.append(str(error))
    for name, content in plan.writes.items():
        try:
            household.secrets.write(name, content)
            written.append(name)
        except ConfigError as error:
            problems.append(str(error))
    failed = {*plan.writes, *plan.removals} - {*written, *removed}
    # A configuration that a check-in did not live to store: it comes again, with its files.
    early = {call.name for call in due if offline and _content(household, call.name) is None}
    for line in (*plan.problems, *problems):
        household.say(line)
    for name in (*written, *removed):
        household.say(f"{name}: {'removed' if name in removed else 'extracted'}")
    asked = _call(household, memory, without=failed | early, offline=offline)
    told = (*plan.problems, *problems)
    return Applied(tuple(written), tuple(removed), told, not failed, asked)


def _present(household: Household, values: Sequence[Value]) -> dict[str, bytes]:
    present = {}
    for value in values:
        content = _content(household, value.name)
        if content is not None:
            present[value.name] = content
    return present


def _content(household: Household, name: str) -> bytes | None:
    """None where it is not there, or is told when it is written."""
    if extraction.unfit(name) is not None:
        return None
    with contextlib.suppress(ConfigError):
        return household.secrets.read(name)
    return None


def call_handlers(household: Household) -> bool:
    """Start what an earlier run has left due; whether one of them asked to exit."""
    return _call(household, _memory(household), without=set(), offline=False)


def _call(household: Household, memory: Memory, *, without: set[str], offline: bool) -> bool:
    """Start what is due, but for files that are not as they should be: those come again."""
    asked = False
    due = [call for call in memory.due if call.name not in without]
    not_begun: list[Call] = []
    while due:
        call = due.pop(0)
        # Before it starts: a handler may restart or reboot us, and must not again and again.
        memory = _remember(household, memory, (*not_begun, *due))
        try:
            asked = _called(household, call, offline=offline) == ASKS_TO_EXIT or asked
        except NotBegunError as error:
            household.say(f"{call.name}: {error}; the next check-in starts it")
            not_begun.append(call)
    if memory.due != tuple(not_begun):
        _remember(household, memory, tuple(not_begun))
    return asked


def _called(household: Household, call: Call, *, offline: bool) -> int | None:
    """The exit status; None where it was not run to its end. Raises NotBegunError."""
    rules = household.handlers
    program = call.command[0]
    command = extraction.allowed(call.command, rules.directory, unsafe=rules.unsafe)
    if command is None:
        household.say(f"{call.name}: {program} is not run: it is not below {rules.directory}")
        return None
    household.say(f"{call.name}: running {program}")
    limit_s = min(rules.limit_s, _LONGEST_AT_BOOT_S) if offline else rules.limit_s
    try:
        status = household.programs.run(
            command,
            _environ(household, call.name, offline=offline),
            limit_s=limit_s,
            say=lambda line: household.say(f"| {line}"),
        )
    except NotBegunError:
        raise
    except AgentError as error:
        household.say(f"{call.name}: {error}")
        return None
    if status:
        household.say(f"{call.name}: {program} ended with status {status}")
    return status


def _environ(household: Household, name: str, *, offline: bool) -> dict[str, str]:
    """What every handler is given: fioconfig internal/app.go."""
    place = household.device.site
    return {
        **household.handlers.passed_on,
        "CONFIG_FILE": os.path.join(household.secrets.directory, name),
        "STORAGE_DIR": place.storage,
        "SOTA_DIR": ",".join(place.sota_paths),
        "FIOCONFIG_BIN": household.handlers.own_program,
        **({OFFLINE: "1"} if offline else {}),
    }


def _memory(household: Household) -> Memory:
    return stored.load(household.device.disk, household.device.site.state_directory)


def _remember(household: Household, memory: Memory, due: tuple[Call, ...]) -> Memory:
    """``memory`` with what is due; a disk in trouble forgets it, and nothing else suffers."""
    memory = dataclasses.replace(memory, due=due)
    try:
        stored.save(household.device.disk, household.device.site.state_directory, memory)
    except ConfigError as error:
        household.say(str(error))
    return memory
