"""What a configuration makes of files: which are written, removed, and what runs for them."""

from __future__ import annotations

import os.path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fioagent.config.extraction import Call, Value, allowed, plan, unfit

HANDLERS = "/usr/share/fioconfig/handlers"
RUN = (f"{HANDLERS}/run", "argument")


def value(name: str, content: bytes | None = b"1", *on_changed: str) -> Value:
    return Value(name, content, on_changed)


def test_what_differs_is_written_and_its_handler_runs() -> None:
    found = plan(
        [value("new", b"1", *RUN), value("same", b"1", *RUN), value("other", b"2", *RUN)],
        [],
        {"same": b"1", "other": b"1"},
    )

    assert found.writes == {"new": b"1", "other": b"2"}
    assert found.removals == ()
    assert found.calls == (Call("new", RUN), Call("other", RUN))
    assert found.problems == ()


def test_what_is_gone_is_removed_and_its_previous_handler_runs() -> None:
    """Only what is there: a second run does nothing."""
    before = [value("gone", b"1", *RUN), value("never-there", b"1", *RUN), value("kept")]

    found = plan([value("kept")], before, {"gone": b"1", "kept": b"1"})

    assert (found.writes, found.removals, found.calls) == ({}, ("gone",), (Call("gone", RUN),))


def test_a_value_that_does_not_open_leaves_its_file() -> None:
    """It is neither written nor taken for removed."""
    found = plan([value("lost", None, *RUN)], [value("lost", b"1", *RUN)], {"lost": b"1"})

    assert (found.writes, found.removals, found.calls) == ({}, (), ())
    assert len(found.problems) == 1
    assert found.problems[0].startswith("cannot decrypt lost ")


def test_a_name_cannot_be_a_file_and_a_directory() -> None:
    """Told once for all, rather than tried and failed at each check-in; the others are there."""
    found = plan([value("a", b"1", *RUN), value("a/b"), value("a/b/../c"), value("ab")], [], {})

    assert sorted(found.writes) == ["a/b", "ab"]
    assert found.calls == ()
    assert "cannot extract 'a': other names need it to be a directory" in found.problems


def test_handlers_run_in_the_order_of_names() -> None:
    """The same on each device and at each time, where a Go map has none."""
    found = plan([value(n, b"1", *RUN) for n in ("c", "a")], [value("b", b"1", *RUN)], {"b": b"1"})

    assert [call.name for call in found.calls] == ["a", "b", "c"]


def test_no_problem_shows_a_value() -> None:
    """Names alone."""
    found = plan([value("../x", b"hunter2"), value("y", None)], [], {})

    assert len(found.problems) == 2
    assert "hunter2" not in "".join(found.problems)


@pytest.mark.parametrize("name", ["a", "a/b", "...", "a..b", "..a/b..", ".hidden", "\u00fc", "a b"])
def test_names_that_will_do(name: str) -> None:
    assert unfit(name) is None


@pytest.mark.parametrize(
    "name",
    ["", "/", "/a", "..", "../a", "a/..", "a/../b", ".", "./a", "a//b", "a/", "\x00", "\ud800"],
)
def test_names_that_will_not(name: str) -> None:
    assert unfit(name) is not None


def test_the_reason_is_told() -> None:
    """In the operator's words, and the right one."""
    assert unfit("/a") == "its name is absolute"
    assert unfit("a/../b") == "its name leads out of the secrets directory"
    assert unfit("a//b") == "its name has an empty part"


@given(st.text(alphabet=st.sampled_from("ab./\\\x00\u00fc\udcae~"), max_size=12))
def test_no_name_that_will_do_leads_out(name: str) -> None:
    """Whatever it is made of, and however it is resolved."""
    if unfit(name) is None:
        path = os.path.join("/secrets", name)
        assert os.path.normpath(path) == path
        assert path.startswith("/secrets/")


@pytest.mark.parametrize(
    ("program", "run"),
    [
        (f"{HANDLERS}/x", f"{HANDLERS}/x"),
        (f"{HANDLERS}//sub/../x", f"{HANDLERS}/x"),
        (f"{HANDLERS}/../x", None),
        (f"{HANDLERS}x", None),
        (HANDLERS, None),
        ("x", None),
        ("/bin/sh", None),
        (f"{HANDLERS}/x\x00", None),
        ("", None),
    ],
)
def test_only_programs_below_the_directory_are_run(program: str, run: str | None) -> None:
    """By the name with ".." resolved, as fioconfig."""
    found = allowed([program, "a"], HANDLERS, unsafe=False)

    assert found == (None if run is None else (run, "a"))


def test_any_absolute_program_is_run_where_that_is_allowed() -> None:
    assert allowed(["/bin/../bin/sh", "a"], HANDLERS, unsafe=True) == ("/bin/sh", "a")
    assert allowed(["sh"], HANDLERS, unsafe=True) is None
