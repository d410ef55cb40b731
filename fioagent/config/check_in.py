"""One check-in: ask the gateway for the configuration, apply it, then store it.

In this order, as fioconfig: what is stored has been applied, so that a check-in
that dies in the middle is done again. The device's lock is held only to store,
and nothing is stored unless the credential, the stored copy and the journal of
the rotation are what they were when the gateway was asked: a rotation may have
encrypted the copy anew meanwhile, and what was fetched before is under the old
key. The next check-in fetches the whole then, so no update is lost.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz
from typing import Final

from fioagent.config import document, extractor, initial, stored
from fioagent.config.extraction import Value
from fioagent.config.extractor import Applied
from fioagent.config.household import Household, keys_at_hand, open_rotation
from fioagent.config.stored import Memory
from fioagent.errors import AgentError, ConfigError, CredentialRefusedError, TemporaryError
from fioagent.model import CredentialRef, sha256_hex
from fioagent.ports import FetchedConfig
from fioagent.rotation import reporter
from fioagent.rotation.journal import Journal
from fioagent.site import Device

_ON_GATEWAY: Final = "the configuration from the gateway"


class Result(str, enum.Enum):
    """What a check-in has found."""

    STORED = "stored"  # a configuration was fetched, applied and stored
    NOT_STORED = "not-stored"  # applied; the next check-in fetches it again
    UNCHANGED = "unchanged"
    NEVER_SET = "never-set"


@dataclass(frozen=True, slots=True)
class Report:
    """How it went.

    Attributes:
        result: see Result.
        applied: what has become of the files.
        why: where it was not stored, why.
    """

    result: Result
    applied: Applied
    why: str | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    """What must not change between the question and the store."""

    credential: CredentialRef
    certificate: str
    copy: bytes | None
    journal: bytes | None


def check_in(household: Household) -> Report:
    """Raises AgentError: the gateway could not be asked; nothing was changed."""
    device = household.device
    device.disk.make_directory(device.site.state_directory)
    with device.disk.lock(household.lock, "check-in"):
        seen = _look(device)
        memory = stored.load(device.disk, device.site.state_directory)
        fetched = _fetched(device, memory.since(seen.copy))
        previous = _previous(seen.copy, device)
        if fetched.document is None:
            asked = extractor.call_handlers(household)
            report = Report(
                Result.UNCHANGED if fetched.ever_set else Result.NEVER_SET,
                Applied(asked_to_exit=asked),
            )
        else:
            report, previous = _applied(household, fetched.document, fetched.date, previous, seen)
        initial.tell(household, previous)
        reporter.deliver_rest(device)
        return report


def _applied(
    household: Household,
    body: bytes,
    date: str | None,
    previous: Sequence[Value],
    seen: _Seen,
) -> tuple[Report, list[Value]]:
    try:
        values = document.values(body, keys_at_hand(household.device), _ON_GATEWAY)
    except ConfigError as error:
        raise TemporaryError(f"{error}; the stored one stays in use") from error
    applied = extractor.apply(household, values, previous, offline=False)
    why: str | None = "not every file could be written"
    if applied.complete:
        why = _store(household.device, body, stored.usable_date(date), seen)
    result = Result.STORED if why is None else Result.NOT_STORED
    return Report(result, applied, why), values


def _look(device: Device) -> _Seen:
    live = device.live_credential()
    certificate = device.keys.certificate(live)
    return _Seen(
        live,
        "" if certificate is None else sha256_hex(certificate.der),
        device.disk.read_if_there(device.site.config),
        device.disk.read_if_there(Journal(device.disk, device.site.state_directory).path),
    )


def _fetched(device: Device, since: str | None) -> FetchedConfig:
    live = device.live_credential()
    try:
        return device.sessions.gateway(live).config(since)
    except (CredentialRefusedError, ConfigError) as error:
        other = _other_credential(device, live)
        if other is None:
            raise
        try:
            return device.sessions.gateway(other).config(since)
        except AgentError:
            raise error from None


def _other_credential(device: Device, live: CredentialRef) -> CredentialRef | None:
    """What else may serve where ``live`` does not: a pending rotation never stops check-ins.

    The live one by now, if a rotation has switched meanwhile; the old one of a
    rotation that has committed and whose new one is refused. Never a new one that
    sota.toml does not name: its first use is the rotation's to decide.
    """
    now = device.live_credential()
    if now != live:
        return now
    rotation = open_rotation(device)
    if rotation is None or live != rotation.new or not device.keys.has_key(rotation.old):
        return None
    return rotation.old


def _previous(copy: bytes | None, device: Device) -> list[Value]:
    """Of the stored copy, unopened: names, handlers and plain values are what is asked of it.

    A damaged one tells nothing, and the next fetch replaces it.
    """
    if copy is None:
        return []
    try:
        return document.values(copy, (), device.site.config)
    except ConfigError:
        return []


def _store(device: Device, body: bytes, date: str | None, seen: _Seen) -> str | None:
    """None once ``body`` is config.encrypted; else why it is not."""
    directory = device.site.state_directory
    try:
        with device.disk.lock(f"{directory}/lock", "check-in"):
            if _look(device) != seen:
                return "credential, stored copy or rotation have changed meanwhile"
            memory = stored.load(device.disk, directory)
            # For a way back: fioconfig takes the file's time for the configuration's.
            device.disk.replace(
                device.site.config, body, mode=0o640, modified_s=_unix_seconds(date)
            )
            stored.save(device.disk, directory, Memory(date, sha256_hex(body), memory.due))
    except TemporaryError as error:
        return str(error)
    return None


def _unix_seconds(date: str | None) -> int | None:
    """Gateways write Go's RFC 1123: GMT, UTC, or the zone of their own that nobody else knows."""
    parsed = parsedate_tz(date) if date else None
    if parsed is None:
        return None
    try:
        return max(0, int(mktime_tz(parsed)))
    except (ValueError, OverflowError):
        return None
