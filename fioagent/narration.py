"""A rotation as the journal of the machine tells it: one line a phase, one at the end.

``journalctl FIOAGENT_ROTATION_ID=certs-1763683200 -o verbose`` is the history of
one, with the fields of docs/service.md. The words are those of the command line.
"""

from __future__ import annotations

from typing import Final

from fioagent import log, words
from fioagent.errors import AgentError
from fioagent.log import Log
from fioagent.model import Exit
from fioagent.rotation.ledger import Progress
from fioagent.rotation.machine import Phase
from fioagent.rotation.rotator import Outcome, Result

_PRIORITIES: Final = {
    Result.COMPLETED: log.NOTICE,
    Result.RECOVERED: log.NOTICE,
    Result.TRY_AGAIN: log.WARNING,
    Result.NEEDS_PERSON: log.ERROR,
    Result.FAILED: log.ERROR,
}
_SETBACKS: Final = frozenset((Phase.REVERTING, Phase.ABANDONED, Phase.SUPERSEDED))


def phase(journal: Log, done: Progress) -> None:
    """A phase is reached, or was before and is gone on from."""
    identifier, name = done.rotation.id, done.phase.value
    fields = {"ROTATION_ID": identifier, "PHASE": name}
    if done.resumed:
        message = f"rotation={identifier} phase={name}: goes on from here"
        journal.say(log.RESUMED, log.INFO, message, fields)
        return
    priority = log.WARNING if done.phase in _SETBACKS else log.INFO
    message = f"rotation={identifier} phase={name}: {words.meaning(done.phase, done.facts)}"
    journal.say(log.PHASE, priority, message, fields)


def end(journal: Log, outcome: Outcome) -> None:
    """A run has come to its end."""
    rotation = outcome.rotation
    fields: dict[str, object] = {"OUTCOME": outcome.result.value}
    message = _with_hint(outcome.message, outcome.hint)
    if rotation is not None:
        fields |= {"ROTATION_ID": rotation.id, "PHASE": rotation.phase.value}
        message = f"rotation={rotation.id} phase={rotation.phase.value}: {message}"
    journal.say(log.ENDED, _PRIORITIES.get(outcome.result, log.INFO), message, fields)


def trouble(journal: Log, error: AgentError, code: int) -> None:
    """A command could not even begin."""
    fields = {"OUTCOME": "not-begun", "EXIT": code}
    priority = log.WARNING if code == Exit.TRY_AGAIN else log.ERROR
    journal.say(log.TROUBLE, priority, _with_hint(str(error), error.hint), fields)


def _with_hint(message: str, hint: str | None) -> str:
    return message if hint is None else f"{message} ({hint})"
