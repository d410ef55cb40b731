"""The JSON lines in which workers answer, read without ``json``. Pure.

``json`` brings ``re`` and ``enum``, 1.2 MB of a process that has 10, and its own
scanner in C is not to be used without it. This reads what ``json.dumps``
writes; the tests hold the two against each other.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_DEEPEST: Final = 8
_SPACE: Final = " \t\r\n"
_NUMBER: Final = "+-.0123456789Ee"
_WORDS: Final = {"true": True, "false": False, "null": None}
_ESCAPES: Final = {
    '"': '"',
    "\\": "\\",
    "/": "/",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
}


def read(line: bytes) -> dict[str, object] | None:
    """The object of one line; None where it is none, such as a word of somebody's library."""
    if not line.startswith(b"{"):
        return None
    try:
        text = line.decode("utf-8")
        found, end = _value(text, 0, 0)
    except (ValueError, IndexError):
        return None
    return found if isinstance(found, dict) and not text[end:].strip(_SPACE) else None


def _value(text: str, at: int, depth: int) -> tuple[object, int]:
    """The value that begins at ``at``, and where it ends."""
    if depth > _DEEPEST:
        raise ValueError("too deep")
    first = text[at]
    if first == '"':
        return _string(text, at + 1)
    if first == "{":
        return _object(text, at + 1, depth)
    if first == "[":
        return _array(text, at + 1, depth)
    for word, meaning in _WORDS.items():
        if text.startswith(word, at):
            return meaning, at + len(word)
    end = at
    while text[end : end + 1] and text[end] in _NUMBER:
        end += 1
    digits = text[at:end]
    return (int(digits) if digits.lstrip("-").isdigit() else float(digits)), end


def _object(text: str, at: int, depth: int) -> tuple[dict[str, object], int]:
    found: dict[str, object] = {}
    at = _skip(text, at)
    while text[at] != "}":
        name, at = _string(text, _past(text, at, '"'))
        found[name], at = _value(text, _skip(text, _past(text, _skip(text, at), ":")), depth + 1)
        at = _next(text, at, "}")
    return found, at + 1


def _array(text: str, at: int, depth: int) -> tuple[list[object], int]:
    found: list[object] = []
    at = _skip(text, at)
    while text[at] != "]":
        value, at = _value(text, at, depth + 1)
        found.append(value)
        at = _next(text, at, "]")
    return found, at + 1


def _string(text: str, at: int) -> tuple[str, int]:
    parts = []
    while text[at] != '"':
        if text[at] != "\\":
            parts.append(text[at])
            at += 1
        elif text[at + 1] == "u":
            parts.append(chr(int(text[at + 2 : at + 6], 16)))
            at += 6
        elif text[at + 1] in _ESCAPES:
            parts.append(_ESCAPES[text[at + 1]])
            at += 2
        else:
            raise ValueError("no such escape")
    # json.dumps writes what is beyond the first plane as a pair of surrogates.
    return "".join(parts).encode("utf-16", "surrogatepass").decode("utf-16", "replace"), at + 1


def _next(text: str, at: int, end: str) -> int:
    """The next member, or the ``end``."""
    at = _skip(text, at)
    return at if text[at] == end else _skip(text, _past(text, at, ","))


def _past(text: str, at: int, expected: str) -> int:
    if text[at] != expected:
        raise ValueError(f"no {expected}")
    return at + 1


def _skip(text: str, at: int) -> int:
    while text[at : at + 1] and text[at] in _SPACE:
        at += 1
    return at
