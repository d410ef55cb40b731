"""What a rotation would meet, looked at one by one: ``fioagent rotate --dry-run``.

Does what a rotation does before its first record, and asks both servers what changes
nothing there. One trouble hides no other: each is told with its remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from fioagent import esturl
from fioagent.config import document
from fioagent.errors import AgentError, PeerError, TemporaryError
from fioagent.model import CredentialRef
from fioagent.rotation import (
    beginning,
    identity,
    opening,
    policy,
    preflight,
    takeover,
    undertaking,
    wanting,
)
from fioagent.rotation.ledger import Ledger
from fioagent.rotation.machine import Phase, Rotation
from fioagent.rotation.wanting import Order
from fioagent.site import Device
from fioagent.x509 import Certificate


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: of it, one word, fixed for ever.
        said: what was found.
        error: why a rotation would stop at it; None where it would not.
        remedy: what to do about that; None where nothing is to be done.
    """

    name: str
    said: str
    error: AgentError | None = None
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class _Scene:
    """What is looked at.

    Attributes:
        ledger: its journal is loaded by the look at it.
        secrets: where configuration is extracted to.
        order: as given.
        at_work: who holds the device's lock; None where nobody does.
    """

    ledger: Ledger
    secrets: str
    order: Order
    at_work: str | None

    @property
    def device(self) -> Device:
        return self.ledger.device

    @property
    def open_one(self) -> Rotation:
        rotation = self.ledger.journal.rotation
        if rotation is None:
            raise AssertionError("no rotation is open")
        return rotation


def rehearse(ledger: Ledger, secrets: str, order: Order, at_work: str | None) -> Iterator[Check]:
    """All of it, as it is found.

    The caller holds no lock, so what is found may be another's work of this moment;
    ``at_work`` says who that is.
    """
    scene = _Scene(ledger, secrets, order, at_work)
    for name in _FIRST:
        yield _checked(name, scene, _FIRST[name])
    rotation = ledger.journal.rotation
    if rotation is not None and rotation.is_open:
        ledger.follow(rotation)
        looks = _OF_OPEN_ONE
    else:
        looks = _OF_NEW_ONE
    for name, look in looks.items():
        yield _checked(name, scene, look)


def _checked(name: str, scene: _Scene, look: Callable[[_Scene], str]) -> Check:
    try:
        return Check(name, look(scene))
    except AgentError as error:
        return Check(name, str(error), error, error.hint or _REMEDIES[name])


def _lock(scene: _Scene) -> str:
    if scene.at_work is not None:
        raise TemporaryError(f"cannot start: {scene.at_work} is at work")
    return "no other fioagent is at work"


def _rotation(scene: _Scene) -> str:
    rotation = scene.ledger.journal.load()
    if rotation is not None and not rotation.is_open:
        return f"{rotation.id} is over, and is put away"
    if rotation is not None:
        trouble = "" if rotation.paused is None else f"; it waits: {rotation.paused.reason}"
        return f"{rotation.id} is open at {rotation.phase.value}, and is gone on with{trouble}"
    state = takeover.found(scene.device)
    if state is not None:
        return f"{state.id} of fioconfig is half-done, and is taken over"
    return "none is open"


def _id(scene: _Scene) -> str:
    wish = opening.wished(scene.ledger)
    wanted = _order(scene).id or (None if wish is None else wish.id)
    if wanted is None:
        return "a fresh one"
    if opening.is_done(scene.ledger, wanted):
        return f"{wanted} is done already, and is not done again"
    return str(wanted)


def _credential(scene: _Scene) -> str:
    return f"key and certificate belong together, serial {_certificate(scene.device).serial}"


def _known(scene: _Scene) -> str:
    identity.require_known_credential(scene.open_one, scene.device)
    return "sota.toml names one that this rotation knows"


def _clock(scene: _Scene) -> str:
    ended = [each.rotation for each in scene.ledger.journal.ended()]
    seen = beginning.issued(each for each in ended if each is not None)
    preflight.require_clock(scene.device, _certificate(scene.device), *seen)
    return f"it is {scene.device.clock.now():%Y-%m-%d %H:%M} UTC"


def _sota(scene: _Scene) -> str:
    preflight.require_editable_sota(scene.device, _place(scene))
    return "sota.toml can be made to name the new key"


def _room(scene: _Scene) -> str:
    preflight.require_room(scene.device)
    return f"{scene.device.site.storage} has room"


def _free(scene: _Scene) -> str:
    new = _place(scene)
    scene.device.keys.require_free(new)
    return f"the new key goes to {new.key}"


def _quota(scene: _Scene) -> str:
    journal = scene.ledger.journal
    beginning.require_quota(scene.device, [*journal.ended(), journal])
    return "a certificate may be requested today"


def _config(scene: _Scene) -> str:
    device, key = scene.device, _key(scene)
    lost = preflight.lost_here(device, [key], ending=_is_ending(device))
    return _lost(lost, "the stored configuration opens with the live key")


def _gateway(scene: _Scene) -> str:
    device = scene.device
    keys, live = [_key(scene)], device.live_credential()
    lost = preflight.lost_on_gateway(device, live, keys, ending=_is_ending(device))
    return _lost(lost, "it takes the certificate, and its copy of the configuration opens")


def _handshake(scene: _Scene) -> str:
    """No request: the first one with a new pair is the gateway's word to switch over."""
    rotation = scene.open_one
    scene.device.sessions.gateway(rotation.live).handshake()
    which = "old" if rotation.live == rotation.old else "new"
    return f"a TLS connection with the {which} certificate comes about"


def _est(scene: _Scene) -> str:
    found = undertaking.est_url_for(scene.ledger, scene.secrets, _order(scene).est_url)
    url = esturl.labelled(esturl.base_url(found), scene.device.settings.est_label)
    return _asked(scene.device, url)


def _asked(device: Device, url: str) -> str:
    """What a rotation asks for before there is a key; where it does not ask, TLS alone."""
    est = device.sessions.est(url, device.live_credential())
    if not device.settings.est_csrattrs:
        est.handshake()
        return f"{url}: a TLS connection comes about"
    wanted = est.csrattrs(_certificate(device).san_der)
    if wanted.problem is not None:
        raise PeerError(f"cannot enrol: {wanted.problem}")
    if not wanted.known:
        est.handshake()  # what is wrong with the line is told better by it
        raise TemporaryError(f"cannot be sure of {url}: {'; '.join(wanted.notes)}")
    return f"{url} answers"


def _est_again(scene: _Scene) -> str:
    rotation = scene.open_one
    if rotation.phase not in (Phase.BEGUN, Phase.KEY_GENERATED):
        return "has done its part"
    return _asked(scene.device, rotation.est_url)


def _order(scene: _Scene) -> Order:
    file = wanting.asked(scene.ledger, scene.secrets)
    return wanting.by_hand(scene.ledger, None, file, scene.order)


def _place(scene: _Scene) -> CredentialRef:
    """As it would be; a fresh id is never taken, whatever it is."""
    identifier = _order(scene).id or undertaking.fresh_id(scene.ledger)
    ids = undertaking.ids_for(scene.ledger, scene.secrets, scene.order)
    return scene.device.keys.place_for(identifier, scene.device.live_credential(), ids)


def _certificate(device: Device) -> Certificate:
    return preflight.require_pair(device, device.live_credential())


def _key(scene: _Scene) -> document.Key:
    """The live key, which has to open values; towards the end of its life it need not."""
    device = scene.device
    key = device.keys.private_key(device.live_credential())
    if not _is_ending(device):
        preflight.require_derives(key)
    return key


def _is_ending(device: Device) -> bool:
    certificate = _certificate(device)
    return policy.is_ending(certificate.not_before, certificate.not_after, device.clock.now())


def _lost(lost: list[str], otherwise: str) -> str:
    return f"no key opens {', '.join(lost)}; it is rotated all the same" if lost else otherwise


_Looks = Mapping[str, Callable[[_Scene], str]]
_FIRST: Final[_Looks] = MappingProxyType({"lock": _lock, "rotation": _rotation})
_OF_NEW_ONE: Final[_Looks] = MappingProxyType(
    {
        "id": _id,
        "credential": _credential,
        "clock": _clock,
        "sota": _sota,
        "room": _room,
        "place": _free,
        "quota": _quota,
        "config": _config,
        "gateway": _gateway,
        "est": _est,
    }
)
_OF_OPEN_ONE: Final[_Looks] = MappingProxyType(
    {"credential": _known, "room": _room, "gateway": _handshake, "est": _est_again}
)
# Where the error itself has none.
_REMEDIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "lock": "wait until it has ended",
        "rotation": "'fioagent log' has its story; tell the operator",
        "id": "tell the operator",
        "credential": "put the matching pair back, or register the device again",
        "clock": "set the clock, or wait for its synchronisation",
        "sota": "mend the file that is named",
        "room": "mount the file system writable, or free space",
        "place": "choose another rotation id with --id",
        "quota": "wait until tomorrow",
        "config": "mend the file or the token that is named",
        "gateway": "look at cable, network, name server and proxy; then tell the operator",
        "est": "look at cable, network, name server and proxy; then try 'fioagent est csrattrs'",
    }
)
