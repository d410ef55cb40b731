"""Many devices at once, and races that must have one winner."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import requests

from fioagent.factory import Factory
from tests.factory.conftest import Lab
from tests.factory.peers import Client

DEVICES = 50


def at_once(clients: list[Client], method: str, path: str) -> list[requests.Response]:
    """All requests leave together, each from a thread of its own."""
    barrier = threading.Barrier(len(clients))

    def go(client: Client) -> requests.Response:
        barrier.wait()
        return client.send(method, path)

    with ThreadPoolExecutor(len(clients)) as pool:
        return list(pool.map(go, clients))


def test_fifty_new_devices_at_once(lab: Lab) -> None:
    """Each is registered with its own key; none is turned away."""
    clients = [lab.client(lab.credential(f"device-{number}")) for number in range(DEVICES)]

    answers = at_once(clients, "GET", "/device")

    assert [client.public_key for client in clients] == [a.json()["pubkey"] for a in answers]
    assert DEVICES == len(lab.factory.all_devices())
    assert (DEVICES, 0) == lab.factory.handshakes("gateway")


def test_two_switch_overs_race_for_one_announcement(lab: Lab) -> None:
    """The first request with the new key switches; the others find it done."""
    for number in range(5):
        old = lab.device(f"device-{number}")
        first = lab.credential(f"device-{number}")
        assert 200 == old.announce(first.public_key).status_code
        clients = [lab.client(first) for _ in range(8)]

        answers = at_once(clients, "GET", "/config")

        assert {204} == {answer.status_code for answer in answers}
    changes = Counter(event["Uuid"] for event in lab.factory.outbox("DEVICE_PUBKEY_CHANGE"))
    assert {f"device-{number}": 1 for number in range(5)} == changes


def test_two_keys_race_for_one_name(lab: Lab) -> None:
    """Trust on first use has one first."""
    clients = [lab.client(lab.credential("device-1")) for _ in range(8)]

    answers = at_once(clients, "GET", "/device")

    counted = Counter(answer.status_code for answer in answers)
    assert Counter({502: 7, 200: 1}) == counted


def test_another_process_may_write_meanwhile(lab: Lab) -> None:
    """As the command line does while the factory is served: a factory object of its own."""
    device = lab.device()
    other = Factory.open(lab.factory.paths.directory, clock=lab.clock)

    def operate() -> None:
        for number in range(20):
            other.set_config("device-1", {f"file-{number}": b"x"}, plain=True)

    operator = threading.Thread(target=operate)
    operator.start()
    statuses = {device.get("/config").status_code for _ in range(20)}
    operator.join()

    assert statuses <= {200, 204}
    assert 20 == len(device.get("/config").json())
