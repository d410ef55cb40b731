"""One device: killed or refused at one call, booted or run again, and looked at all the while."""

from __future__ import annotations

import functools
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.crash.kill_scenarios import (
    ROTATE,
    Scenario,
    check_end,
    check_kept,
    check_reachable_at_boot,
)
from tests.crash.subjects import Subject
from tests.crash.syscalls import (
    KILL,
    Command,
    Fault,
    InjectionError,
    Ran,
    TokenLostError,
    disturbed,
)

RECOVER: Final[Command] = ("recover",)
CODES: Final = frozenset((0, 1, 75, 78))
# tpm2-pkcs11 tells of an error itself; python-pkcs11 0.7, when it ends, that there is nothing
# to finalise after a C_Initialize that failed. An agent's traceback has more lines.
_OF_OTHERS: Final = re.compile(
    r"^ERROR: .*\n"
    r"|^(?:Exception ignored in: 'pkcs11\._pkcs11\.lib\.__dealloc__'\n)?Traceback .*\n"
    r'  File "pkcs11/_errors\.pyx".*\nRuntimeError: Initialisation error \(not initialized\).*\n',
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Trial:
    """One device's misfortune, and what follows it.

    Attributes:
        fault: what happens to ``rotate``.
        then: the command that comes next, killed as well; None where all goes well from here on.
        boots: ``recover`` comes next, as at a boot; else the timer's next run.
        polled: another program uses the live pair before the next ``rotate``.
        powerless: the power of its TPM fails with the process, or stays on; None: it has no TPM.
    """

    fault: Fault
    then: tuple[Command, Fault] | None = None
    boots: bool = False
    polled: bool = False
    powerless: bool | None = None

    def __str__(self) -> str:
        then = f", then {self.then[0][0]} {self.then[1]}" if self.then else ""
        power = {None: "", False: ", the TPM stays on", True: ", the TPM loses its power"}
        after = f"{power[self.powerless]}{', boot' * self.boots}{', polled' * self.polled}"
        return f"{self.fault}{then}{after}"


@dataclass(slots=True)
class Verdict:
    """What became of it.

    Attributes:
        states: digests of what was recovered from.
        ended: "rotated" or "reverted"; empty where it did not.
        stranded: what was found of an unreachable gateway.
        broken: what was found of any other promise.
    """

    trial: Trial
    states: list[str] = field(default_factory=list)
    ended: str = ""
    stranded: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def hold(self, into: list[str], when: str, check: Callable[[], object]) -> bool:
        """Whether the check passes; what it says goes into ``stranded`` or ``broken``."""
        found = what_fails(check)
        if found:
            into.append(f"{self.trial}: {when}: {found}")
        return not found


def what_fails(check: Callable[[], object]) -> str:
    """What a check says, in one line; empty where it passes."""
    try:
        check()
    except Exception as error:  # noqa: BLE001  # whatever a check meets is what it found
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = " ".join(str(error).split())[:300]
        return f"{type(error).__name__} in {where.name}, {where.line!r}: {said}"
    return ""


def tried(subject: Subject, scenario: Scenario, trial: Trial, log: Path) -> Verdict:
    """The whole life of one device; ``log`` is where strace writes.

    Raises:
        TokenLostError: the fault befell what is no part of the rotation.
    """
    verdict = Verdict(trial)
    key_before = subject.live_key()
    steps = [(ROTATE, trial.fault), *([trial.then] if trial.then else [])]
    for command, fault in steps:
        try:
            ran = disturbed(fault, command, subject.env, subject.directory, log)
        except TokenLostError:
            raise
        except InjectionError as error:
            verdict.broken.append(f"{trial}: {command[0]}: {error}")
            return verdict
        subject.process_ended(powerless=bool(trial.powerless))
        if fault.what != KILL:
            verdict.hold(verdict.broken, "words", functools.partial(check_words, ran))
        _look(subject, scenario, verdict, key_before, f"after {command[0]}")
        if not verdict.stranded:
            verdict.states.append(subject.shape())
    if trial.boots:
        verdict.hold(verdict.broken, "recover", lambda: check_recovers(subject))
        _look(subject, scenario, verdict, key_before, "after recover")
    if trial.polled and not scenario.gateway_forgot:
        verdict.hold(verdict.stranded, "polled", subject.check_reachable)
    _finish(subject, scenario, verdict)
    if not verdict.stranded:
        key = subject.live_key()
        verdict.ended = "reverted" if key == key_before else "rotated"
    return verdict


def _look(
    subject: Subject, scenario: Scenario, verdict: Verdict, key_before: bytes, when: str
) -> None:
    verdict.hold(verdict.stranded, when, lambda: check_reachable_at_boot(subject, scenario))
    verdict.hold(verdict.broken, when, lambda: check_kept(subject, key_before))


def _finish(subject: Subject, scenario: Scenario, verdict: Verdict) -> None:
    def finished() -> None:
        code, said = scenario.finish(subject)
        assert code == scenario.code, f"exit {code}: {said}"

    verdict.hold(verdict.broken, "next run", finished)
    if verdict.hold(verdict.stranded, "end", subject.check_reachable):
        verdict.hold(verdict.broken, "end", lambda: check_end(subject, scenario))


def check_recovers(subject: Subject) -> None:
    """It ends well, offline, and config.encrypted opens with the live key alone."""
    requests = len(subject.factory.requests("gateway"))
    ran = subject.fioagent(*RECOVER)
    assert ran.code == 0, ran.err
    assert requests == len(subject.factory.requests("gateway")), "recover asked the gateway"
    subject.check_live_opens()


def check_words(ran: Ran) -> None:
    """One plain line and perhaps what to do next; one of the documented exit codes."""
    lines = _OF_OTHERS.sub("", ran.err).splitlines()
    assert "Traceback" not in "\n".join(lines), lines[-1]
    assert ran.code in CODES, f"exit {ran.code}: {ran.err}"
    if ran.code == 0:
        assert not lines, ran.err
    else:
        assert lines[0].startswith("fioagent: "), ran.err
        assert [line for line in lines[1:] if not line.startswith("  ")] == [], ran.err
        assert len(lines) <= 2, ran.err
