"""The ways that a rotation can go, each from where the power may fail first."""

from __future__ import annotations

import base64
import functools
import json
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from fioagent.agent import Agent
from fioagent.factory.pki import certificates
from fioagent.http import Response
from fioagent.rotation.rotator import Outcome, Result
from tests.crash.disk_rotation import DISK, STORAGE, Rotation, opened, unwatched
from tests.crash.servers import EST_URL, Servers, public_pem

ID: Final = "certs-1"

# --- what is done ---


def rotate(agent: Agent, identifier: str = ID) -> Outcome:
    """``fioagent rotate --now --id``."""
    return agent.rotate(now=True, est_url=None, rotation_id=identifier, watch=unwatched)


rotate_next = functools.partial(rotate, identifier="certs-2")


def check_in(agent: Agent) -> Outcome:
    """What runs by a timer: it delivers what has not been told yet."""
    return agent.rotate(now=False, est_url=None, rotation_id=None, watch=unwatched)


def rotate_unless_over(agent: Agent) -> Outcome:
    """What has failed is not begun anew."""
    return check_in(agent) if _is_over(agent) else rotate(agent)


def cancel(agent: Agent) -> Outcome:
    return agent.cancel(unwatched)


def cancel_unless_over(agent: Agent) -> Outcome:
    outcome = cancel(agent)
    return check_in(agent) if outcome.result is Result.NOTHING_TO_DO else outcome


def _is_over(agent: Agent) -> bool:
    status = agent.status()
    return status.open is None and status.last is not None and status.last.id == ID


# --- what was before ---


def registered(servers: Servers) -> None:
    """Never rotated."""
    del servers


def rotated_once(servers: Servers) -> None:
    """The live pair has names of its own, and the stable names are links."""
    with opened(servers) as agent:
        _expect(rotate(agent, "certs-0"), Result.COMPLETED)


def asked_to_wait(servers: Servers) -> None:
    """The EST server wants a person's consent first."""
    servers.est_answers = [202, 202]


def foreign_ca(servers: Servers) -> None:
    """The gateway does not trust what the EST server issues."""
    servers.est_ca = "foreign-ca"


def waiting_for_est(servers: Servers) -> None:
    """Nobody outside knows of the new key."""
    servers.est_answers = [503]
    with opened(servers) as agent:
        _expect(rotate(agent), Result.TRY_AGAIN)


def locked(servers: Servers) -> None:
    """Before the commit."""
    _stopped_at("PATCH", "/config", servers)


def forgotten(servers: Servers) -> None:
    """Another key was announced in place of the new one, which will be refused at first use."""
    locked(servers)
    stranger = certificates.public_pem(certificates.new_key().public_key())
    servers.foreign_public_key = "accept"
    servers.strangers = [stranger]
    servers.next_public_key = stranger


def distrusted(servers: Servers) -> None:
    """The gateway has stopped to trust the CA after it was asked."""
    _stopped_at("PATCH", "/device", servers)
    servers.distrusted = ["online-ca"]
    servers.second_lock = "replace"


def begun_by_fioconfig(servers: Servers) -> None:
    """It has its certificate, has locked, and keeps its new key in its state file alone."""
    key = certificates.new_key()
    peer = x509.load_pem_x509_certificate(DISK.read(f"{STORAGE}/client.pem"))
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(peer.subject)
        .add_extension(certificates.CLIENT_AUTH, critical=True)
        .sign(key, hashes.SHA256())
    )
    encoded = base64.b64encode(request.public_bytes(Encoding.DER))
    answer = servers.answer("est", peer, "POST", "/simplereenroll", encoded)
    (issued,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.body))
    body = json.dumps({"next_pubkey": public_pem(issued)}).encode()
    _expect_status(servers.answer("gateway", peer, "PATCH", "/device", body), 200)
    state = {
        "RotationId": ID,
        "StepIdx": 2,
        "EstServer": EST_URL,
        "NewKey": certificates.private_pem(key).decode(),
        "NewCert": certificates.certificate_pem(issued).decode(),
    }
    DISK.replace(f"{STORAGE}/cert-rotation.state", json.dumps(state).encode())


def _stopped_at(method: str, path: str, servers: Servers) -> None:
    """A first rotation, as far as the gateway cannot answer this request."""

    def wrap(port: Any, name: str) -> Any:
        return _Failing(port, (method, path)) if name == "gateway" else port

    with opened(servers, wrap) as agent:
        _expect(rotate(agent), Result.TRY_AGAIN)


class _Failing:
    """A line to a gateway that is in trouble with one kind of request."""

    def __init__(self, line: Any, request: tuple[str, str]) -> None:
        self._line = line
        self._failing = request

    def __getattr__(self, name: str) -> Any:
        return getattr(self._line, name)

    def request(self, method: str, path: str, **named: Any) -> Response:
        if (method, path) == self._failing:
            return Response(500, {}, b"")
        answer: Response = self._line.request(method, path, **named)
        return answer


def _expect(outcome: Outcome, result: Result) -> None:
    if outcome.result is not result:
        raise AssertionError(f"set-up ended with {outcome.result.value}: {outcome.message}")


def _expect_status(answer: Response, status: int) -> None:
    if answer.status != status:
        raise AssertionError(f"set-up was answered {answer.status}: {answer.body!r}")


DONE, FAILED = Result.COMPLETED, Result.FAILED
SCENARIOS: Final = (
    Rotation("first rotation", registered, rotate, rotate, DONE),
    Rotation("second rotation", rotated_once, rotate, rotate, DONE),
    Rotation("first rotation, polled at boot", registered, rotate, rotate, DONE, polled=True),
    Rotation("202, then issued", asked_to_wait, rotate, rotate, DONE),
    Rotation("given up: CA not trusted", foreign_ca, rotate, rotate_unless_over, FAILED),
    Rotation("reverted: 502 at first use", forgotten, rotate, rotate_unless_over, FAILED),
    Rotation("reverted: alert at first use", distrusted, rotate, rotate_unless_over, FAILED),
    Rotation("superseded before the lock", waiting_for_est, rotate_next, rotate_next, DONE),
    Rotation("superseded after the lock", locked, rotate_next, rotate_next, DONE),
    Rotation("cancelled", waiting_for_est, cancel, cancel_unless_over, Result.CANCELLED),
    Rotation("fioconfig's taken over", begun_by_fioconfig, rotate, rotate, DONE),
)
