"""New roots by an operator's trigger: fioconfig's ``renew-root``, without its dangers.

The operator names an EST server whose ``cacerts`` has the roots that shall be
trusted. A new one is taken only where a root that is trusted already has vouched for
its key (RFC 7030 section 4.1.3: NewWithOld); those that are not listed any more go,
but never before the gateway was reached without them. Every step may run twice, and
what is done is looked up, not remembered. The request is, until the operator was told
and the marker is there: check-ins go on with it.
"""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from fioagent import chain, esturl, trust
from fioagent.config.trigger import checked_id
from fioagent.errors import AgentError, CredentialRefusedError, PeerError, TemporaryError
from fioagent.model import RotationId
from fioagent.rotation import current_target, events
from fioagent.rotation.events import Event
from fioagent.rotation.preflight import require_clock, require_pair
from fioagent.rotation.wanting import name_of
from fioagent.site import Device
from fioagent.x509 import Certificate, CertificateError

_STARTED: Final = "RootCaUpdateStarted"
_STEP: Final = "Fetch new root"
_COMPLETED: Final = "RootCaUpdateCompleted"
_AGAIN: Final = timedelta(hours=1)
_DONE: Final = re.compile(rb'"RotationId":\s*"([^"]*)"')


@dataclass(frozen=True, slots=True)
class Renewal:
    """What became of it; both empty where nothing had to be done."""

    added: Sequence[Certificate] = ()
    retired: Sequence[Certificate] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """What an operator has asked for.

    Attributes:
        est_url: base address of the EST server.
        id: of the operator's choice; done once.
    """

    est_url: str
    id: RotationId


def noted(device: Device, request: Request) -> bool:
    """Remembered from here on; False where it is done already.

    Raises:
        ConfigError: the disk, or an address that is none.
    """
    esturl.base_url(request.est_url)
    if _done(device) == request.id:
        return False
    known = _pending(device)
    if known is None or known[0] != request:
        _remember(device, request, None)
    return True


def asked(device: Device, request: Request) -> Renewal | None:
    """It is remembered, and done; None where it is done already.

    Raises:
        AgentError: as ``renew``; check-ins go on with it.
    """
    return renew(device, request) if noted(device, request) else None


def go_on(device: Device) -> Renewal | None:
    """With the request that is open, where it is due; None where there is none.

    Raises:
        AgentError: as ``renew``.
    """
    request = due(device)
    return None if request is None else renew(device, request)


def due(device: Device) -> Request | None:
    """The request that is open, where it was not tried within the last hour."""
    known = _pending(device)
    if known is None:
        return None
    request, tried = known
    since = None if tried is None else device.clock.now() - tried
    return request if since is None or not timedelta() <= since < _AGAIN else None


def renew(device: Device, request: Request) -> Renewal:
    """Trust what the EST server lists. A definite no ends the request, once it is told.

    Raises:
        TemporaryError: the server or the gateway was not reached; the old roots stay.
        PeerError: what the server lists is not vouched for, or leaves nothing to trust.
        ConfigError: this device needs a person.
    """
    _remember(device, request, device.clock.now())
    live = require_pair(device, device.live_credential())
    require_clock(device, live)
    url = esturl.labelled(esturl.base_url(request.est_url), device.settings.est_label)
    try:
        renewed = _renewed(device, url)
    except TemporaryError:
        raise  # nothing has ended; operators are told once it has
    except AgentError as error:
        with contextlib.suppress(AgentError):
            _tell(device, live, request.id, str(error))
            device.disk.remove(device.site.roots_request)  # over, and operators know
        raise
    trust.restart(device)  # whatever was new: a run before may have been cut here
    _tell(device, live, request.id, "")
    marker = {"RotationId": request.id, "StepIdx": 1, "EstServer": request.est_url}
    text = json.dumps(marker, separators=(",", ":")).encode()  # the handler greps '"...",'
    device.disk.replace(device.site.roots_marker, text, mode=0o640)
    device.disk.remove(device.site.roots_request)
    return renewed


def _done(device: Device) -> str | None:
    found = _DONE.search(device.disk.read_if_there(device.site.roots_marker) or b"")
    return found[1].decode("utf-8", "replace") if found else None


def _pending(device: Device) -> tuple[Request, datetime | None] | None:
    """With the time of the last try; None for a file that is none of ours, too."""
    try:
        found = json.loads(device.disk.read_if_there(device.site.roots_request) or b"{}")
        request = Request(str(found["est_server"]), checked_id(str(found["id"])))
        tried = found.get("tried_at")
        return request, None if tried is None else datetime.fromisoformat(tried).astimezone()
    except (AgentError, KeyError, TypeError, ValueError, RecursionError, AttributeError):
        return None


def _remember(device: Device, request: Request, tried: datetime | None) -> None:
    value = {"est_server": request.est_url, "id": request.id}
    if tried is not None:
        value["tried_at"] = tried.isoformat()
    device.disk.make_directory(device.site.state_directory)
    device.disk.replace(device.site.roots_request, json.dumps(value).encode(), mode=0o600)


def _renewed(device: Device, url: str) -> Renewal:
    offered = _offered(device, url)
    known = device.sessions.trusted_roots()
    listed = {each.der for each in offered}
    # Signed with its own key: the new key under the old root has the same two names.
    roots = [each for each in offered if chain.has_signed(each, each)]
    fresh = [each for each in roots if not _among(each, known)]
    for root in fresh:
        _require_vouched(root, offered, known, device)
    gone = [root for root in known if root.der not in listed]
    if len(gone) == len(known) and not fresh:
        raise PeerError(f"cannot renew the roots: {url} lists none that may be trusted")
    added = trust.extend(device, fresh, f"the roots of {url}")
    try:
        if gone:
            trust.without(device, gone, url)
    except TemporaryError:
        if added:
            trust.restart(device)
        raise
    return Renewal(added, gone)


def _offered(device: Device, url: str) -> list[Certificate]:
    found = []
    for der in device.sessions.est(url, device.live_credential()).cacerts():
        try:
            found.append(Certificate.from_der(der))
        except CertificateError as error:
            raise PeerError(
                f"cannot renew the roots: {url} lists a damaged one: {error}"
            ) from error
    return found


def _among(certificate: Certificate, known: Sequence[Certificate]) -> bool:
    return any(certificate.der == each.der for each in known)


def _require_vouched(
    root: Certificate, offered: Sequence[Certificate], known: Sequence[Certificate], device: Device
) -> None:
    """By a certificate for its name and key that a trusted root has signed, or by that key itself.

    Raises:
        PeerError: nobody has; whoever holds the EST server shall not hold the device's trust.
    """
    wrong = f"cannot trust the new root {root.subject!r}"
    if all(root.subject_der != each.subject_der for each in known):
        raise PeerError(f"{wrong}: no root that is trusted has this name")
    if any(_name_and_key(root) == _name_and_key(each) for each in known):
        return  # for longer
    for witness in offered:
        if _name_and_key(root) == _name_and_key(witness) and chain.says_ca(witness):
            try:
                if chain.path(witness, [], known, device.clock.now()).anchored:
                    return
            except chain.ChainError:
                continue
    raise PeerError(
        f"{wrong}: no root that is trusted has signed its key",
        hint="the EST server has to list the new key signed by the old root, too; or add the root "
        "by hand with 'fioagent trust add'",
    )


def _name_and_key(certificate: Certificate) -> tuple[bytes, bytes]:
    return certificate.subject_der, certificate.spki_der


def _tell(device: Device, live: Certificate, identifier: RotationId, trouble: str) -> None:
    """Operators, by the live pair; ids are the same when it is told again.

    Raises:
        AgentError: it cannot be told now.
    """
    target = current_target.read(device.disk, device.site.storage)
    at = events.rfc3339(device.clock.now())
    steps = [(_STARTED, True), (_STEP, not trouble), (_COMPLETED, not trouble)]
    told = [Event(name, well, at, "" if well else trouble) for name, well in steps]
    bodies = [
        events.body(each, _event_id(live, identifier, each), identifier, target) for each in told
    ]
    try:
        device.sessions.gateway(device.live_credential()).post_events(bodies)
    except CredentialRefusedError:
        raise
    except PeerError:
        return  # it will never take them


def _event_id(live: Certificate, identifier: RotationId, event: Event) -> uuid.UUID:
    name = f"{name_of(live)} {identifier} {event.name} {event.success}"
    return uuid.uuid5(uuid.NAMESPACE_OID, name)
