"""The oracle: what has to be true of a device and its servers, whatever has happened.

It knows nothing of how the agent keeps its promises; ``look`` reads the disk
with other eyes. What is broken is told in pairs: "stranded" for a device that
cannot reach its gateway, "broken" for every other promise, and what was found.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from cryptography import x509

from fioagent.factory.pki.certificates import key_digest
from fioagent.ports import Disk
from tests.crash import look
from tests.crash.look import Journal, Look
from tests.crash.servers import Servers, public_pem
from tests.world import BUNDLE, PLAIN, SECRET

Broken = tuple[str, str]
STRANDED: Final = "stranded"
BROKEN: Final = "broken"

CONFIG: Final[Mapping[str, bytes]] = {"app-secret": SECRET, "certs/ca-bundle.pem": BUNDLE, **PLAIN}
_TERMINAL: Final = "CertRotationCompleted"
_MOST_EVENTS: Final = 64
_LASTING: Final = {"sota.toml", "root.crt", "current-target", "config.encrypted"}
_STABLE: Final = {"pkey.pem", "client.pem"}
_MARKER: Final = "cert-rotation.state.completed"
_FOREIGN: Final = "cert-rotation.state"
_PRIVATE: Final = (b"PRIVATE KEY", b"hunter2", SECRET, BUNDLE)


def at_any_instant(
    disk: Disk, servers: Servers, storage: str, *, recovered: bool = True
) -> list[Broken]:
    """What is broken on a device that has just lost its power, or is at work.

    ``recovered``: what runs first at boot has run. Until then a commit or a way
    back may be cut in half; nobody else reads the files before it.
    """
    found = look.at(disk, storage)
    return [
        *_pair(found, servers, recovered=recovered),
        *_configuration(found, servers, found.key_pems),
        *_old_pair(found),
        *_awaited_key(found, servers),
        *_secrets(found, servers),
    ]


def at_the_end(
    disk: Disk,
    servers: Servers,
    storage: str,
    *,
    others: Sequence[str] = (),
    heard: bool = True,
) -> list[Broken]:
    """The same, and what has to be true once no rotation is open any more.

    ``others``: names of files in ``storage`` that are none of the agent's business;
    ``heard``: the gateway has taken every report, so that nothing may be missing.
    """
    found = look.at(disk, storage)
    key, _ = found.pair(*found.live)
    return [
        *at_any_instant(disk, servers, storage),
        *_configuration(found, servers, [] if key is None else [key]),
        *_one_credential(found, servers, set(others)),
        *(_events(found, servers) if heard else ()),
        *_marker(found),
    ]


def only_the_pair_changed(before: bytes, after: bytes) -> list[Broken]:
    """sota.toml as it was to the byte, but for the two paths."""
    for path in (*look.live_paths(after), *look.live_paths(before)):
        before, after = (text.replace(f'"{path}"'.encode(), b'""') for text in (before, after))
    return [] if before == after else [(BROKEN, "sota.toml: more than the pair has changed")]


def has_rotated(disk: Disk, storage: str) -> bool:
    """Whether the latest rotation has ended with the new pair live."""
    ended = look.at(disk, storage).ended
    return bool(ended) and ended[-1].phases[-1] == "completed"


# --- at every instant ---


def _pair(found: Look, servers: Servers, *, recovered: bool) -> Iterator[Broken]:
    """The credential that sota.toml names is there, matches, and the gateway takes it."""
    wrong, leaf = _whole_pair(found, *found.live)
    if leaf is not None and not servers.takes(leaf):
        if _is_excused(found, servers, recovered=recovered):
            return
        wrong = f"the gateway refuses {found.live[1]}"
    if wrong is not None:
        phase = found.open.phases[-1] if found.open else "none open"
        yield STRANDED, f"{wrong} (rotation: {phase})"


def _whole_pair(
    found: Look, key: str, certificate: str
) -> tuple[str | None, x509.Certificate | None]:
    """What is wrong with a pair, or its certificate."""
    pem, leaf = found.pair(key, certificate)
    public = None if pem is None else look.public_pem(pem)
    if public is None or leaf is None:
        return f"no credential at {key!r} and {certificate!r}", None
    if public != public_pem(leaf):
        return f"{key} does not belong to {certificate}", None
    return None, leaf


def _is_excused(found: Look, servers: Servers, *, recovered: bool) -> bool:
    """The sole exception: committed, and the refusal has not been seen yet.

    It holds only as long as the way back is open: the old pair works.
    """
    if found.open is None:
        return False
    halves = () if recovered else ("device-config-updated", "reverting")
    if found.open.phases[-1] not in ("committed", *halves):
        return False
    begun = found.open.begun
    _, leaf = _whole_pair(found, begun["old_key"], begun["old_certificate"])
    return leaf is not None and servers.takes(leaf)


def _configuration(found: Look, servers: Servers, pems: Sequence[bytes]) -> Iterator[Broken]:
    """Both copies are whole, and every value opens with one of the keys ``pems``."""
    local: Any = json.loads(found.files.get("config.encrypted", b"{}"))
    for place, entries in (("config.encrypted", local), ("the gateway", servers.config)):
        if entries.keys() != CONFIG.keys():
            yield BROKEN, f"the configuration of {place} has other files: {sorted(entries)}"
            continue
        for name, entry in entries.items():
            if CONFIG[name] not in _readings(entry, pems):
                yield BROKEN, f"{name} in the configuration of {place} is lost"


def _readings(entry: Mapping[str, Any], pems: Sequence[bytes]) -> list[bytes | None]:
    if entry.get("Unencrypted"):
        return [entry["Value"].encode()]
    return [look.opened(entry["Value"], pem) for pem in pems]


def _old_pair(found: Look) -> Iterator[Broken]:
    """It exists until it is recorded that the gateway has answered the new one."""
    if found.open is None or "confirmed" in found.open.phases:
        return
    begun = found.open.begun
    if begun["old_sha256"] == "unknown":
        return  # fioconfig had removed it before
    wrong, _ = _whole_pair(found, begun["old_key"], begun["old_certificate"])
    if wrong is not None:
        yield BROKEN, f"the old pair is gone in phase {found.open.phases[-1]}: {wrong}"


def _awaited_key(found: Look, servers: Servers) -> Iterator[Broken]:
    """A key that the gateway waits for is on the device: else it would stay locked for ever."""
    awaited = servers.next_public_key
    ours = {look.public_pem(pem) for pem in found.key_pems}
    if awaited is not None and awaited not in servers.strangers and awaited not in ours:
        yield BROKEN, "the gateway waits for a key that is nowhere on the device"


def _secrets(found: Look, servers: Servers) -> Iterator[Broken]:
    """No key and no value of the configuration outside its place."""
    outside = {name: text for name, text in found.files.items() if name.startswith("fioagent/")}
    if _FOREIGN not in found.files:  # of fioconfig, whose marker is cleaned when its state is
        outside[_MARKER] = found.files.get(_MARKER, b"")
    outside["the events"] = json.dumps(servers.events).encode()
    for name, content in outside.items():
        for secret in _PRIVATE:
            if secret in content or base64.b64encode(secret) in content:
                yield BROKEN, f"a secret in {name}"


# --- at the end ---


def _one_credential(found: Look, servers: Servers, others: set[str]) -> Iterator[Broken]:
    """Exactly one credential, nothing else of ours, and no gateway that waits."""
    in_token = found.live[0].isdecimal()
    paths = look.placed(found.storage, *found.live)
    live = [path.removeprefix(found.storage) for path in paths]
    public = {live[0].replace("pkey.", "public.")} if in_token else set[str]()
    stable_names = set[str]() if in_token else _STABLE
    here = {name for name in found.files if not name.startswith("fioagent/")}
    stray = here - _LASTING - stable_names - set(live) - public - {_MARKER} - others
    missing = (_LASTING | stable_names | set(live) | public) - here
    if stray or missing:
        yield BROKEN, f"left behind: {sorted(stray)}; missing: {sorted(missing)}"
    for stable, path in zip(sorted(stable_names, reverse=True), live, strict=False):
        if found.real.get(stable) != found.real.get(path):
            yield BROKEN, f"{stable} does not lead to {path}"
    if len(found.key_pems) != 1:
        yield BROKEN, f"{len(found.key_pems)} private keys on the device"
    ours = {name for name in found.files if name.startswith("fioagent/")}
    stray = ours - {"fioagent/lock"} - {each.name for each in found.ended}
    if stray:
        yield BROKEN, f"left behind: {sorted(stray)}"
    if servers.next_public_key not in (None, *servers.strangers):
        yield BROKEN, "the gateway still waits for another key"


def _events(found: Look, servers: Servers) -> Iterator[Broken]:
    """Each rotation is told from its start to one end: in order, nothing missing, and true."""
    # An id that was given up may be begun again: each time it has a seed of its own.
    ids = [{*_ids(journal)} for journal in found.ended]
    strange = {event["id"] for event in servers.events}.difference(*ids)
    if strange:
        yield BROKEN, f"events of rotations that nobody knows: {sorted(strange)}"
    for place, journal in enumerate(found.ended):
        told = [event for event in servers.events if event["id"] in ids[place]]
        if any(e["event"]["correlationId"] != journal.begun["id"] for e in told):
            yield BROKEN, f"events of {journal.begun['id']} under another id"
        yield from _series(journal, told)
        ends = [event for event in told if event["eventType"]["id"] == _TERMINAL]
        if len(ends) != 1 or told[-1:] != ends:
            yield BROKEN, f"{journal.begun['id']} was told to end {len(ends)} times, or not last"
            continue
        said = bool(ends[0]["event"]["success"])
        if said != _has_become_live(journal, found, servers):
            yield BROKEN, f"{journal.begun['id']}: told success={said}, which is not true"
        later = [each.begun["new_key"] for each in found.ended[place + 1 :]]
        if not said and found.live[0] == journal.begun["new_key"] not in later:
            yield BROKEN, f"{journal.begun['id']} was told to have failed, and its key is live"


def _ids(journal: Journal) -> list[str]:
    """Every id that an event of it may have."""
    seed = uuid.UUID(journal.begun["event_seed"])
    return [str(uuid.uuid5(seed, mark)) for mark in ("end", *map(str, range(_MOST_EVENTS)))]


def _series(journal: Journal, told: Sequence[Mapping[str, Any]]) -> Iterator[Broken]:
    """Ids are fixed by seed and place, so a gap, a repeat and a swap can be seen."""
    seed = uuid.UUID(journal.begun["event_seed"])
    marks = [
        "end" if event["eventType"]["id"] == _TERMINAL else str(place)
        for place, event in enumerate(told)
    ]
    expected = [str(uuid.uuid5(seed, mark)) for mark in marks]
    if [event["id"] for event in told] != expected:
        yield BROKEN, f"the events of {journal.begun['id']} have gaps, or are out of order"
    if told and told[0]["eventType"]["id"] != "CertRotationStarted":
        yield BROKEN, f"the events of {journal.begun['id']} do not begin at the start"


def _has_become_live(journal: Journal, found: Look, servers: Servers) -> bool:
    """Its new pair is the one in use, or was until a later rotation replaced it."""
    known = [key_digest(pem) for pem in (servers.public_key, *servers.denied)]
    successors = [found.live[0], *(each.begun["old_key"] for each in found.ended)]
    return (
        journal.phases[-1] == "completed"
        and journal.begun["new_key"] in successors
        and journal.key_sha256 in known
    )


def _marker(found: Look) -> Iterator[Broken]:
    """The stock handler finds the id of the latest success, and no other."""
    done = [each.begun["id"] for each in found.ended if each.phases[-1] == "completed"]
    marker = found.files.get(_MARKER, b"")
    if done and f'"RotationId":"{done[-1]}",'.encode() not in marker:
        yield BROKEN, f"{_MARKER} does not name {done[-1]}"
