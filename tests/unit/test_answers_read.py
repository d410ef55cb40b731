"""The service's own reading of JSON lines, held against the standard library's."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fioagent import answers

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_what_json_writes_is_read(value: dict[str, object]) -> None:
    """Whatever a worker's message quotes of a server."""
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        assert answers.read(text.encode()) == value


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:\\utrue1-. ', max_size=40))
def test_nothing_else_harms(line: bytes | str) -> None:
    """A worker that crashed may have said half of it."""
    raw = line if isinstance(line, bytes) else line.encode()
    for found in (answers.read(raw), answers.read(b"{" + raw)):
        assert found is None or isinstance(found, dict)


@pytest.mark.parametrize(
    "line",
    [b"", b"[]", b"{", b'{"a"', b'{"a":', b'{"a": 1', b'{"a": 1} x', b"{1: 2}", b'{"a": "\\x"}'],
    ids=repr,
)
def test_half_an_object_is_none(line: bytes) -> None:
    """Nothing is concluded from it."""
    assert answers.read(line) is None


def test_what_is_too_deep_is_none() -> None:
    """Our lines have two levels; the stack is not for others to fill."""
    assert answers.read(b'{"a":' * 1000 + b"1" + b"}" * 1000) is None
