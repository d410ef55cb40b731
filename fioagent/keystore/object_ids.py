"""Object ids of a token: which mean the same to every program on the device. Pure.

aktualizr-lite and lmp-device-register read two hexadecimal digits; fioconfig
takes each character for a byte of its own and drops leading zeros, so "10" is 10
to the ones and 01 00 to the other. They agree on 01 to 09 alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from fioagent.errors import ConfigError
from fioagent.model import ObjectIds

LABEL: Final = "aktualizr"  # lmp-device-register's, and fioconfig's default
PIN_CREDENTIAL: Final = "fioagent-p11-pin"  # of the unit: LoadCredential=
USUAL: Final = ObjectIds(keys=("01", "07"), certificates=("03", "09"))  # fioctl's defaults
ALL: Final = tuple(bytes([number]) for number in range(1, 10))


def as_bytes(text: str) -> bytes:
    """CKA_ID of an id as sota.toml and triggers have it ("01", "7").

    Raises:
        ConfigError: one that programs read in different ways.
    """
    digits = text.lstrip("0")
    if len(text) > 2 or len(digits) != 1 or digits not in "123456789":
        raise ConfigError(
            f"cannot use the object id {text!r}",
            hint="01 to 09 alone mean the same to fioconfig and to aktualizr-lite",
        )
    return bytes([int(digits)])


def as_text(identifier: bytes) -> str:
    """As sota.toml has it."""
    return identifier.hex()


def same(one: str, other: str) -> bool:
    """Whether two spellings mean one id. Raises ConfigError, as ``as_bytes``."""
    return as_bytes(one) == as_bytes(other)


def others(wanted: Sequence[str], live: str) -> list[bytes]:
    """Those of ``wanted`` that ``live`` is not, in their order.

    Raises:
        ConfigError: no other is among them.
    """
    found = [each for each in _unique(map(as_bytes, wanted)) if each != as_bytes(live)]
    if not found:
        raise ConfigError(
            f"cannot choose an object id for the new credential: {live} is the live one, and "
            f"there is no other in {','.join(wanted)}",
            hint="two ids at least are needed: PKEYIDS=01,07 and CERTIDS=03,09",
        )
    return found


def _unique(identifiers: Iterable[bytes]) -> list[bytes]:
    return list(dict.fromkeys(identifiers))
