"""What needs the network: names, the proxy, the gateway, the EST server.

Requests are those that change nothing: GET of the configuration with a date in the
future, GET of the device's own layer, GET of CA certificates.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from urllib.parse import urlsplit

from fioagent import trial
from fioagent.config.household import keys_at_hand
from fioagent.doctor.finding import Finding, State, failed, fine, skipped
from fioagent.doctor.patient import Patient
from fioagent.errors import ConfigError, PeerError, TemporaryError
from fioagent.proxy import Proxy
from fioagent.rotation import preflight
from fioagent.rotation.journal import Journal
from fioagent.site import Device


def _peers(device: Device) -> Iterator[tuple[str, str, int, Proxy | None]]:
    """Each server that a rotation speaks to, and the proxy on the way."""
    urls = [("gateway", device.sota().require("tls.server"))]
    with contextlib.suppress(ConfigError):  # told by the check of that name
        urls.append(("est", trial.server(device, None)))
    for peer, url in urls:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 443
        yield peer, host, port, device.settings.proxy_to(peer, host, port)


def dns(patient: Patient) -> Iterator[Finding]:
    """Names that this device has to know itself: a proxy looks up those behind it."""
    peers = _peers(patient.device)
    named = dict(
        (host, port) if way is None else (way.host, way.port) for _, host, port, way in peers
    )
    for host, port in sorted(named.items()):
        try:
            count = patient.around.look_up(host, port)
        except TemporaryError as error:
            yield failed(patient.check, error)
        else:
            yield fine(patient.check, f"{host} is found, addresses: {count}")


def proxy(patient: Patient) -> Iterator[Finding]:
    ways = [(host, port, way) for _, host, port, way in _peers(patient.device) if way is not None]
    if not ways:
        yield skipped(patient.check, "no server is reached through one")
    for host, port, way in ways:
        patient.around.reach(host, port, way)
        yield fine(patient.check, f"{way.name} leads to {host}:{port}")


def _is_busy(device: Device) -> bool:
    """Whether a first request with a pair could mean something to the gateway.

    By the files that a rotation has while it is open, whether they can be read or not.
    """
    journal = Journal(device.disk, device.site.state_directory).path
    return any(map(device.disk.is_there, (journal, device.site.foreign_state)))


def gateway(patient: Patient) -> Iterator[Finding]:
    device = patient.device
    live = device.live_credential()
    peer = device.sessions.gateway(live)
    url = device.sota().require("tls.server")
    if _is_busy(device):
        # The first request with a new certificate is the rotation's to make.
        peer.handshake()
        yield fine(patient.check, f"{url} takes the certificate in a handshake")
        return
    yield fine(patient.check, f"{url} takes the certificate ({peer.check()})")


def supports_rotation(patient: Patient) -> Iterator[Finding]:
    device = patient.device
    if _is_busy(device):
        yield skipped(patient.check, "a rotation is open, and asks itself")
        return
    keys = keys_at_hand(device)
    preflight.lost_on_gateway(device, device.live_credential(), keys, ending=False)
    yield fine(patient.check, "the gateway supports it, and its copy of the configuration opens")


def est(patient: Patient) -> Iterator[Finding]:
    device = patient.device
    try:
        url = trial.server(device, None)
    except ConfigError as error:
        yield failed(patient.check, error, State.WARN)
        return
    peer = device.sessions.est(url, device.live_credential())
    peer.handshake()
    try:
        count = len(peer.cacerts())
    except (PeerError, TemporaryError) as error:  # a rotation does without
        yield failed(patient.check, error, State.WARN)
        return
    yield fine(patient.check, f"{url}: CA certificates: {count}")
