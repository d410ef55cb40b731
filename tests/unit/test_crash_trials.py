"""Which trials layer 2 makes of a run, and how they are told."""

from __future__ import annotations

import pytest

from tests.crash.kills import kills
from tests.crash.syscalls import KILL, Fault, Point, Ran
from tests.crash.trial import Trial, check_words

CALLS = [Point("fsync", "a", nth, changes=nth != 2) for nth in range(1, 10)]


def test_a_tpm_stays_on_and_loses_its_power_in_turn() -> None:
    """At neighbouring calls, and each of both is followed by a boot and by the timer."""
    made = kills(CALLS, (False, True), every_way=False, stride=1)

    assert [each.fault.point.nth for each in made] == [1, 3, 4, 5, 6, 7, 8, 9]
    assert [each.powerless for each in made] == [False, True] * 4
    assert len({(each.boots, each.polled, each.powerless) for each in made}) == 8


def test_every_way_is_every_way_at_each_call() -> None:
    made = kills(CALLS, (None,), every_way=True, stride=4)

    assert [each.fault.point.nth for each in made] == [1] * 4 + [6] * 4
    assert {each.powerless for each in made} == {None}


@pytest.mark.parametrize(
    ("powerless", "told"),
    [(None, ""), (False, ", the TPM stays on"), (True, ", the TPM loses its power")],
)
def test_a_failure_tells_what_became_of_the_tpm(powerless: bool | None, told: str) -> None:
    trial = Trial(Fault(CALLS[0], KILL), boots=True, powerless=powerless)

    assert str(trial) == f"-P a -e inject=fsync:signal=KILL:when=1{told}, boot"


MODULE = "ERROR: step error: database or disk is full\nERROR: Could not execute stmt\n"
LINE = "fioagent: cannot use the token 'aktualizr' of m.so: GeneralError\n  its log has more\n"
TRACEBACK = 'Traceback (most recent call last):\n  File "pkcs11/_errors.pyx", line 88, in x\n'
NOT_INITIALISED = f"{TRACEBACK}RuntimeError: Initialisation error (not initialized). Never.\n"
AT_THE_END = f"Exception ignored in: 'pkcs11._pkcs11.lib.__dealloc__'\n{NOT_INITIALISED}"


@pytest.mark.parametrize(
    ("code", "said"),
    [(0, ""), (0, MODULE), (75, f"{MODULE}{LINE}"), (75, LINE + NOT_INITIALISED + AT_THE_END)],
)
def test_what_a_module_tells_is_not_the_agents(code: int, said: str) -> None:
    """Nor what python-pkcs11 says at its own end."""
    check_words(Ran(code, "", said))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        *((0, LINE), (1, ""), (1, MODULE), (3, LINE), (75, LINE + LINE)),
        (75, f"{LINE}{TRACEBACK}RuntimeError: something else\n"),
        (75, LINE + NOT_INITIALISED.replace("  File", '  File "fioagent/a.py"\n  File')),
    ],
)
def test_what_the_agent_tells_is_one_plain_line(code: int, said: str) -> None:
    with pytest.raises((AssertionError, IndexError)):
        check_words(Ran(code, "", said))
