"""The ``fio-rotate-certs`` file: the operator's word that a device shall rotate.

Lines of ``NAME=VALUE``, as fioctl writes them: ESTSERVER, ROTATIONID, PKEYIDS,
CERTIDS; and two of our own, WINDOW and START, that spread a fleet. The stock handler
greps it without anchors and stops at the second ``=``; here a comment is a comment
and a value goes to the line's end. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from fioagent import esturl, forms
from fioagent.errors import ConfigError
from fioagent.model import RotationId, sha256_hex

FILE_NAME: Final = "fio-rotate-certs"
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,63}")  # the event server drops others
_OBJECT_IDS: Final = re.compile(r"[0-9A-Fa-f]{1,4}(?:\s*,\s*[0-9A-Fa-f]{1,4})*")
_NAMES: Final = ("ROTATIONID", "ESTSERVER", "PKEYIDS", "CERTIDS", "WINDOW", "START")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Trigger:
    """What the operator asks for.

    Attributes:
        id: of the rotation; it is made once.
        est_url: base URL of the EST server; empty where the file names none.
        window: over which a fleet spreads; None where the file does not say.
        start: when the window begins; None: when the device sees the file.
        key_ids: object ids that the new key may have in a token, in this order.
        certificate_ids: the same for the certificate.
        digest: of the file, to tell it from a corrected one.
        unknown: names that mean nothing to this version.
    """

    id: RotationId
    est_url: str
    window: timedelta | None
    start: datetime | None
    key_ids: tuple[str, ...]
    certificate_ids: tuple[str, ...]
    digest: str
    unknown: tuple[str, ...]


def checked_id(value: str) -> RotationId:
    """Raises ConfigError: gateways drop events of other ids without a word."""
    if not _ID.fullmatch(value):
        raise ConfigError(
            f"cannot use the rotation id {value!r}",
            hint="1 to 63 letters, digits, '-' and '_', such as certs-1763683200",
        )
    return RotationId(value)


def parse(content: bytes) -> Trigger:
    """Raises ConfigError that names the value: it can be made good by the operator alone."""
    values = forms.assignments(content.decode("utf-8", "replace"))
    identifier = _read(values, "ROTATIONID", checked_id)
    if identifier is None:
        raise _refused("ROTATIONID is not in it")
    return Trigger(
        id=identifier,
        est_url=_read(values, "ESTSERVER", esturl.base_url) or "",
        window=_read(values, "WINDOW", forms.duration),
        start=_read(values, "START", forms.moment),
        key_ids=_read(values, "PKEYIDS", _object_ids) or (),
        certificate_ids=_read(values, "CERTIDS", _object_ids) or (),
        digest=sha256_hex(content),
        unknown=tuple(name for name in values if name not in _NAMES),
    )


def _read(values: dict[str, str], name: str, reader: Callable[[str], _T]) -> _T | None:
    """None where the name is absent or has nothing behind it."""
    value = values.get(name, "")
    if not value:
        return None
    try:
        return reader(value)
    except ConfigError as error:
        raise _refused(f"{name}: {error}") from error
    except ValueError as error:
        raise _refused(f"{name} is {value!r}: {error}") from error


def _object_ids(value: str) -> tuple[str, ...]:
    if not _OBJECT_IDS.fullmatch(value):
        raise ValueError("it is no list of object ids such as 01,07")
    return tuple(each.strip() for each in value.split(","))


def _refused(why: str) -> ConfigError:
    return ConfigError(
        f"cannot use {FILE_NAME}: {why}",
        hint="the operator has to set this file again, with the same ROTATIONID or another",
    )
