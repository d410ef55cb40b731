"""The forms of JSON lines, as docs/technicians.md has them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PAGE = Path(__file__).resolve().parent.parent / "docs" / "technicians.md"
_FORMS: Mapping[str, type | tuple[type, ...]] = {
    "text": str,
    "number": (int, float),
    "boolean": bool,
    "object": dict,
    "null": type(None),
}


def table(heading: str) -> list[list[str]]:
    """Cells of the first table below a heading of any depth."""
    after = _PAGE.read_text().partition(f"# {heading}\n")[2].partition("\n#")[0]
    lines = [line for line in after.splitlines() if line.startswith("| ")]
    assert lines, heading
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def check(value: Mapping[str, Any], heading: str) -> None:
    """Every member that is documented, in its form, and no other."""
    forms = {row[0].strip("`"): row[1] for row in table(heading)}
    assert list(forms) == list(value)
    for name, form in forms.items():
        kinds = tuple(_FORMS[word] for word in form.split(" or "))
        assert isinstance(value[name], _flat(kinds)), (name, value[name])
        assert form == "boolean" or not isinstance(value[name], bool), name


def _flat(kinds: tuple[Any, ...]) -> tuple[type, ...]:
    found: list[type] = []
    for kind in kinds:
        found += kind if isinstance(kind, tuple) else [kind]
    return tuple(found)
