"""The list of mutants fits the agent as it is, and what is said of them is true."""

from __future__ import annotations

import pytest

from tests.crash import mutants
from tests.crash.__main__ import LAYERS
from tests.crash.mutant import Mutant
from tests.crash.mutant_list import MUTANTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_the_agent_with_one_change(mutant: Mutant) -> None:
    """Its text is there once, what comes instead is Python, and somebody looks for it."""
    source = (mutants.TOP / "fioagent" / mutant.file).read_text()

    changed = mutants.mutated(mutant, source)

    assert changed != source
    compile(changed, mutant.file, "exec")
    assert mutant.found_by
    for finder in mutant.found_by:
        assert int(finder) in LAYERS if finder.isdigit() else (mutants.TOP / finder).is_file()


def test_no_two_mutants_are_the_same() -> None:
    """Neither by name nor by what they do."""
    assert len(MUTANTS) == len({mutant.name for mutant in MUTANTS})
    assert len(MUTANTS) == len({(each.file, each.text, each.instead) for each in MUTANTS})


@pytest.mark.parametrize("source", ["", "one two", "a b a b"])
def test_a_text_that_is_not_there_once_is_told(source: str) -> None:
    """A change of the agent must not make a mutant the agent itself."""
    mutant = Mutant("made-up", "none", "disk.py", "a b", "c", ("1",))

    with pytest.raises(mutants.MutantError, match=r"made-up.*times in disk\.py"):
        mutants.mutated(mutant, source)


def test_survivors_stand_out_in_the_table() -> None:
    """And are counted."""
    first, second = MUTANTS[:2]

    lines = mutants.table(
        [mutants.Found(first, "3", "a file is empty", 2.0), mutants.Found(second, "", "", 30.0)]
    )

    assert "layer 3" in lines[0]
    assert "a file is empty" in lines[0]
    assert "SURVIVED" in lines[1]
    assert lines[2] == "1 of 2 mutants found"


def test_an_unknown_name_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything runs."""
    assert mutants.main(["no-such"], jobs=1) == 2
    assert "no such mutant: no-such" in capsys.readouterr().err
