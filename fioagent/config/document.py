"""The device's configuration as the gateway sends it, and the same under another key.

A JSON object: file name to ``{"Value", "OnChanged", "Unencrypted"}``. Values are
base64 of ECIES unless ``Unencrypted``. Member names are matched without regard
to case, as Go does; members that we do not know pass through untouched.
Pure; a value that was opened lives no longer than it takes to seal it again.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from fioagent import ecies
from fioagent.config.extraction import Value
from fioagent.errors import MalformedError, NotDerivingError
from fioagent.ports import ConfigFile

Key = ec.EllipticCurvePrivateKey
_HALVES = re.compile("[\ud800-\udfff]")


def parse(document: bytes, origin: str) -> dict[str, dict[str, Any]]:
    """Entries by file name.

    Raises:
        MalformedError: not the JSON we know; names ``origin``.
    """
    try:
        entries = json.loads(document, parse_constant=_not_json)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"cannot read {origin}: not valid JSON") from error
    if not isinstance(entries, dict):
        raise MalformedError(f"cannot read {origin}: not a JSON object")
    for name, entry in entries.items():
        if not isinstance(entry, dict) or not isinstance(_member(entry, "Value"), str):
            raise MalformedError(f"cannot read {origin}: the entry {name!r} has no text value")
        # A flag of another type could make a secret pass for plain text.
        if type(_member(entry, "Unencrypted")) not in (bool, type(None)):
            raise MalformedError(
                f"cannot read {origin}: Unencrypted of {name!r} is no true or false"
            )
        handlers = _member(entry, "OnChanged")
        if handlers is not None and not _is_texts(handlers):
            raise MalformedError(f"cannot read {origin}: OnChanged of {name!r} is no list of texts")
    return entries


def _not_json(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def resealed(document: bytes, keys: Sequence[Key], recipient: Key, origin: str) -> bytes:
    """The same configuration with every encrypted value readable by ``recipient`` alone.

    Args:
        document: as parse() takes it.
        keys: any of them may open a value; ``recipient`` among them makes a repeat harmless.
        recipient: the key that shall open all of them; its own values stay as they are.
        origin: where the document is from, for messages.

    A value that no key opens stays as it is: it is lost already, and the others are not.

    Raises:
        MalformedError: malformed.
        AgentError: a token that will not open anything now.
    """
    entries = parse(document, origin)
    for _, entry in _encrypted(entries):
        if _open(entry, recipient) is not None:
            continue
        opened = (_open(entry, key) for key in keys)
        plaintext = next((text for text in opened if text is not None), None)
        if plaintext is not None:
            sealed = base64.b64encode(ecies.encrypt(plaintext, recipient.public_key()))
            entry[_spelling(entry, "Value")] = sealed.decode("ascii")
    try:
        return json.dumps(entries, separators=(",", ":"), allow_nan=False).encode("ascii")
    except ValueError as error:
        raise MalformedError(f"cannot rewrite {origin}: a number in it is too large") from error


def lost(document: bytes, keys: Sequence[Key], origin: str) -> list[str]:
    """Names of the values that none of ``keys`` opens.

    Raises:
        MalformedError: malformed.
        AgentError: a token that will not open anything now.
    """
    encrypted = _encrypted(parse(document, origin))
    return [name for name, entry in encrypted if all(_open(entry, key) is None for key in keys)]


def opens_with(document: bytes, key: Key, origin: str) -> bool:
    """Whether ``key`` opens every encrypted value; True where there is none."""
    encrypted = _encrypted(parse(document, origin))
    return all(_open(entry, key) is not None for _, entry in encrypted)


def files(document: bytes, origin: str) -> list[ConfigFile]:
    """The entries as PATCH /config takes them."""
    return [
        ConfigFile(
            name,
            _member(entry, "Value"),
            bool(_member(entry, "Unencrypted")),
            tuple(_member(entry, "OnChanged") or ()),
        )
        for name, entry in sorted(parse(document, origin).items())
    ]


def values(document: bytes, keys: Sequence[Key], origin: str) -> list[Value]:
    """Every file of the configuration, opened by whichever of ``keys`` does.

    Raises:
        MalformedError: malformed.
        AgentError: a token that will not open anything now.
    """
    return [
        Value(
            name,
            _plaintext(entry, keys),
            tuple(_member(entry, "OnChanged") or ()),
        )
        for name, entry in sorted(parse(document, origin).items())
    ]


def _plaintext(entry: dict[str, Any], keys: Sequence[Key]) -> bytes | None:
    if _member(entry, "Unencrypted"):
        # JSON can spell half a character, which no file can hold; Go's decoder replaces it too.
        return _HALVES.sub("\ufffd", _member(entry, "Value")).encode()
    opened = (_open(entry, key) for key in keys)
    return next((text for text in opened if text is not None), None)


def _encrypted(entries: dict[str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((n, entry) for n, entry in entries.items() if not _member(entry, "Unencrypted"))


def _open(entry: dict[str, Any], key: Key) -> bytes | None:
    """The plaintext; None where ``key`` does not open it.

    fioctl uploads "" for an empty file, because go-ecies seals nothing to
    nothing and then cannot open it; here it is what it was meant to be. It
    opens with any key, so a value resealed to us stays "" and old agents see no change.
    """
    value = _member(entry, "Value")
    if value == "":
        return b""
    try:
        # Go's decoder steps over line ends in base64, so some tools write them.
        compact = value.replace("\r", "").replace("\n", "")
        return ecies.decrypt(base64.b64decode(compact, validate=True), key)
    except (ValueError, NotDerivingError):  # not base64, or not for this key
        return None


def _member(entry: dict[str, Any], name: str) -> Any:
    return entry.get(_spelling(entry, name))


def _spelling(entry: dict[str, Any], name: str) -> str:
    return next((found for found in entry if found.lower() == name.lower()), name)
