"""What a check has found: one line for a person, one object for a machine. Pure."""

from __future__ import annotations

import enum
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fioagent.causes import Cause
from fioagent.errors import AgentError, exit_of, one_line
from fioagent.model import Exit

_WIDTH: Final = 79  # columns of a serial console
_INDENT: Final = " " * 22
_WORST_FIRST: Final = (Exit.CONFIG, Exit.FAILED, Exit.TRY_AGAIN)


class State(str, enum.Enum):
    """How it is with what was looked at."""

    OK = "ok"
    WARN = "warn"  # it works, and somebody should know
    FAIL = "fail"  # a rotation would stop at this, or the device does not work
    SKIP = "skip"  # not looked at, and why


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a check.

    Attributes:
        check: its name.
        state: see State.
        message: what was found, in a line.
        hint: what to do next; None where nothing is to be done.
        cause: name of the row of ``causes.py``; None where it is of none.
        exit: of a failure, the exit status that it is worth; else 0.
    """

    check: str
    state: State
    message: str
    hint: str | None = None
    cause: str | None = None
    exit: Exit = Exit.DONE

    def as_json(self) -> dict[str, object]:
        said = {"event": "check", "check": self.check, "state": self.state.value}
        return {**said, "message": self.message, "hint": self.hint, "cause": self.cause}


def fine(check: str, message: str) -> Finding:
    return Finding(check, State.OK, message)


def skipped(check: str, why: str) -> Finding:
    return Finding(check, State.SKIP, f"not looked at: {why}")


def warned(check: str, cause: Cause, facts: Mapping[str, object]) -> Finding:
    words, remedy = cause.told(facts)
    return Finding(check, State.WARN, one_line(words, 600), one_line(remedy, 600), cause.name)


def failed(check: str, error: AgentError, state: State = State.FAIL) -> Finding:
    """What a rotation would stop at, in its words."""
    cause = None if error.cause is None else error.cause.name
    code = exit_of(error) if state is State.FAIL else Exit.DONE
    return Finding(check, state, str(error), error.hint, cause, code)


def worst(findings: Iterable[Finding]) -> Exit:
    """Of the worst of them: a person is needed, a server refuses, it may work later, all well."""
    codes = {each.exit for each in findings}
    return next((code for code in _WORST_FIRST if code in codes), Exit.DONE)


def lines(finding: Finding) -> Iterator[str]:
    """For a console of 80 columns: state, check, what was found; what to do below it."""
    head = f"{finding.state.value:<5} {finding.check:<15} {finding.message}"
    yield from _folded(head, _INDENT)
    if finding.hint is not None:
        yield from _folded(f"{_INDENT}next: {finding.hint}", _INDENT + "  ")


def _folded(text: str, indent: str) -> list[str]:
    plain = text.encode("ascii", "replace").decode("ascii")  # whatever the console takes
    lead = len(plain) - len(plain.lstrip())
    return textwrap.wrap(
        plain.lstrip(),
        _WIDTH,
        initial_indent=" " * lead,
        subsequent_indent=indent,
        break_long_words=False,  # a path or a command is there to be copied
        break_on_hyphens=False,
    )


def summary(findings: Sequence[Finding]) -> str:
    """The last line: how many of each."""
    counts = [(state, sum(each.state is state for each in findings)) for state in State]
    told = ", ".join(f"{count} {state.value}" for state, count in counts if count)
    return f"{_VERDICTS[worst(findings)]}: {told}"


_VERDICTS: Final[Mapping[Exit, str]] = {
    Exit.DONE: "nothing is in the way of a rotation",
    Exit.TRY_AGAIN: "it may work later",
    Exit.FAILED: "a server refuses",
    Exit.CONFIG: "this device needs a person",
}
RESULTS: Final[Mapping[Exit, str]] = {
    Exit.DONE: "healthy",
    Exit.TRY_AGAIN: "try-again",
    Exit.FAILED: "refused",
    Exit.CONFIG: "needs-person",
}


def read(value: Mapping[str, Any]) -> Finding:
    """The finding of a line that a worker has said. Raises KeyError, ValueError: it is none."""
    return Finding(
        str(value["check"]),
        State(value["state"]),
        str(value["message"]),
        value["hint"],
        value["cause"],
        Exit(value["exit"]),
    )
