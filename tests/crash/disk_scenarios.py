"""The ways that a rotation can go, each from where the power may fail first."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from cryptography import x509

from fioagent.agent import Agent
from fioagent.factory.pki import certificates
from fioagent.http import Response
from fioagent.rotation.rotator import Outcome, Result
from tests.crash.disk_rotation import DISK, STORAGE, Rotation, SetUp, opened, unwatched
from tests.crash.fioconfig import Fioconfig
from tests.crash.servers import Servers

ID: Final = "certs-1"

# --- what is done ---


def rotate(agent: Agent, identifier: str = ID) -> Outcome:
    """``fioagent rotate --now --id``."""
    return agent.rotate(now=True, est_url=None, rotation_id=identifier, watch=unwatched)


rotate_next = partial(rotate, identifier="certs-2")


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


def reverted_once(servers: Servers) -> None:
    """A rotation came back to its old pair; then the gateway trusts the CA again."""
    distrusted(servers)
    with opened(servers) as agent:
        _expect(rotate(agent), Result.FAILED)
    servers.distrusted = []


def after_a_first(set_up: SetUp, servers: Servers) -> None:
    """On a device that has rotated before."""
    rotated_once(servers)
    set_up(servers)


def by_fioconfig(steps: int, servers: Servers) -> None:
    """It was removed after so many of its steps, with its new key in its state file."""
    leaf = x509.load_pem_x509_certificate(DISK.read(f"{STORAGE}/client.pem"))
    Fioconfig(DISK, servers, STORAGE, leaf).do(steps)


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
    Rotation("fioconfig's, locked", partial(by_fioconfig, 2), rotate, rotate, DONE),
)
# The same ways again from other beginnings: in the full run only.
MORE: Final = (
    Rotation("rotation after a way back", reverted_once, rotate_next, rotate_next, DONE),
    Rotation(
        "second rotation reverted",
        partial(after_a_first, forgotten),
        rotate,
        rotate_unless_over,
        FAILED,
    ),
    Rotation(
        "second rotation superseded before the lock",
        partial(after_a_first, waiting_for_est),
        rotate_next,
        rotate_next,
        DONE,
    ),
    Rotation(
        "second rotation superseded after the lock",
        partial(after_a_first, locked),
        rotate_next,
        rotate_next,
        DONE,
    ),
    Rotation("fioconfig's, enrolled", partial(by_fioconfig, 1), rotate, rotate, DONE),
    Rotation("fioconfig's, not switched", partial(by_fioconfig, 4), rotate, rotate, DONE),
    Rotation("fioconfig's, half switched", partial(by_fioconfig, 5), rotate, rotate, DONE),
)
