"""Who may ask the gateway, and what the others are told."""

from __future__ import annotations

import json
import socket
import ssl
from urllib.parse import urlsplit

import pytest
import requests

from tests.factory.conftest import Lab
from tests.factory.peers import TIMEOUT_S
from tests.factory.test_events import event


def test_without_a_certificate_routes_answer_403(lab: Lab) -> None:
    answer = lab.client().get("/config")

    assert (403, "no client certificate provided") == (answer.status_code, answer.text)
    assert "text/plain; charset=UTF-8" == answer.headers["Content-Type"]


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/nowhere", 404, "Not Found"),
        ("POST", "/config", 405, "Method Not Allowed"),
        ("GET", "/events", 405, "Method Not Allowed"),
        ("PUT", "/device", 405, "Method Not Allowed"),
    ],
)
def test_routes_that_are_not_there_need_no_certificate(
    lab: Lab, method: str, path: str, status: int, said: str
) -> None:
    """The public gateways authenticate matched routes only, and answer these in JSON."""
    answer = lab.client().send(method, path)

    assert (status, {"message": said}) == (answer.status_code, answer.json())


@pytest.mark.parametrize(
    ("knob", "value", "method", "path"),
    [
        ("patch_device", "405", "PATCH", "/device"),
        ("config_device", "404", "GET", "/config-device"),
        ("get_device", "404", "GET", "/device"),
    ],
)
def test_cloud_routes_can_be_taken_away(
    lab: Lab, knob: str, value: str, method: str, path: str
) -> None:
    """As on the public gateways, which have none of them; the other method stays."""
    lab.factory.set_knob(knob, value)

    answer = lab.client().send(method, path)

    assert int(value) == answer.status_code
    assert {"message": "Not Found" if value == "404" else "Method Not Allowed"} == answer.json()
    assert 204 == lab.client(lab.credential()).get("/config").status_code


@pytest.mark.parametrize("ca", ["local-ca", "online-ca"])
def test_an_unknown_name_registers_itself(lab: Lab, ca: str) -> None:
    """Trust on first use of the name, from any device CA; with a chain or without."""
    client = lab.client(lab.credential("new-device", ca=ca, with_chain=True))

    assert client.public_key == client.get("/device").json()["pubkey"]
    assert ["new-device"] == [device.uuid for device in lab.factory.all_devices()]


def test_a_new_certificate_for_the_same_key_goes_unnoticed(lab: Lab) -> None:
    """Identity is CN and key. The certificate itself is not remembered."""
    first = lab.device()
    assert first.credential is not None

    second = lab.client(lab.credential(ca="online-ca", key=first.credential.key))

    assert 200 == second.get("/device").status_code


@pytest.mark.parametrize(("value", "status"), [("502", 502), ("403", 403), ("accept", 200)])
def test_a_key_that_was_not_announced(lab: Lab, value: str, status: int) -> None:
    """The public gateways know 502 only; the cloud's answer is not public."""
    lab.factory.set_knob("unannounced_key", value)
    lab.device()
    stranger = lab.client(lab.credential())

    answer = stranger.get("/device")

    assert status == answer.status_code
    if value == "502":
        assert "Key rotation is not supported" == answer.text
    taken = lab.factory.device("device-1").public_key_pem == stranger.public_key
    assert taken == (value == "accept")
    assert len(lab.factory.outbox("DEVICE_PUBKEY_CHANGE")) == (1 if value == "accept" else 0)


def test_a_check_in_is_noted(lab: Lab) -> None:
    """Every call tells when the device was seen and, if it wants, what it runs."""
    device = lab.device()
    lab.clock.tick(5)

    device.get("/config", x_ats_target="lmp-42", x_ats_tags="main", x_ats_dockerapps="shop")
    seen = device.get("/device").json()

    assert ("lmp-42", "main", "shop", "") == (
        seen["target_name"],
        seen["tag"],
        seen["docker_apps"],
        seen["ostree_hash"],
    )
    assert int(lab.clock.now) == seen["last_seen"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_100_kilobytes_is_refused_and_the_answer_arrives(
    lab: Lab, chunked: bool
) -> None:
    """The client is told 413, not cut off in the middle of sending."""
    device = lab.device()
    body = b"x" * 1024 * 1024

    answer = device.send("POST", "/events", data=iter([body]) if chunked else body)

    assert 413 == answer.status_code
    assert 200 == device.get("/device").status_code


@pytest.mark.parametrize("value", ["500", "503"])
def test_a_sick_gateway(lab: Lab, value: str) -> None:
    device = lab.device()
    lab.factory.set_knob("gateway_answer", value)

    assert int(value) == device.get("/config").status_code

    lab.factory.set_knob("gateway_answer", "normal")
    assert 204 == device.get("/config").status_code


def test_a_gateway_that_answers_rubbish(lab: Lab) -> None:
    device = lab.device()
    lab.factory.set_knob("gateway_answer", "garbage")

    answer = device.get("/device")

    assert 200 == answer.status_code
    with pytest.raises(ValueError, match=r"codec|Expecting"):
        answer.json()


def test_a_gateway_that_hangs_up(lab: Lab) -> None:
    """The connection closes without an HTTP answer, and the log says so."""
    device = lab.device()
    lab.factory.set_knob("gateway_answer", "drop")

    with pytest.raises(requests.ConnectionError):
        device.get("/config")

    assert 0 == lab.factory.requests("gateway")[-1].status
    assert (lab.factory.paths.log / "gateway.log").read_text().endswith(" dropped\n")


def test_a_device_that_asks_too_often_is_told_when_to_come_back(lab: Lab) -> None:
    """Per device; and a request that was turned away changes nothing."""
    device, other = lab.device(), lab.device("device-2")
    lab.factory.set_knob("rate_limit_per_minute", "2")

    assert [200, 200, 429] == [device.get("/device").status_code for _ in range(3)]
    assert 200 == other.get("/device").status_code
    lab.clock.tick(20)
    refused = device.announce(lab.credential().public_key)
    assert (429, "40") == (refused.status_code, refused.headers["Retry-After"])
    assert lab.factory.device("device-1").next_public_key_pem is None

    lab.clock.tick(40)
    assert 200 == device.get("/device").status_code


def test_requests_are_remembered_for_assertions(lab: Lab) -> None:
    """Method, path, status, key, body and headers, in order; and the log has one line each."""
    device = lab.device()
    lab.factory.clear_requests()

    device.get("/config?x=1")
    device.send("POST", "/events", json=[])

    seen = lab.factory.requests("gateway")
    assert [("GET", "/config?x=1", 204), ("POST", "/events", 200)] == [r[:3] for r in seen]
    assert b"[]" == seen[1].body
    assert "application/json" == seen[1].headers["content-type"]
    assert lab.factory.device("device-1").public_key_pem == device.public_key
    log = (lab.factory.paths.log / "gateway.log").read_text().splitlines()
    assert log[-1].endswith(f"POST /events device-1 {seen[1].key[:12]} 200")


DEEP = b"[" * 90_000
HALF = "\ud800"  # of a pair: JSON can say it, and UTF-8 cannot


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        *((m, p, DEEP) for m, p in (("PATCH", "/device"), ("PATCH", "/config"))),
        *((m, p, DEEP) for m, p in (("POST", "/events"), ("POST", "/tests"))),
        ("PUT", "/tests/action-0123456789", DEEP),
        ("PATCH", "/device", json.dumps({"next_pubkey": HALF}).encode()),
        ("POST", "/events", json.dumps([{**event(1), "id": HALF}]).encode()),
        ("POST", "/tests", json.dumps({"name": HALF}).encode()),
        ("POST", "/tests", json.dumps({"name": "x", "test-id": HALF * 20}).encode()),
        ("PUT", "/tests/action-0123456789", json.dumps({"status": HALF}).encode()),
        (
            "PUT",
            "/tests/action-0123456789",
            json.dumps({"status": "PASSED", "artifacts": [HALF]}).encode(),
        ),
    ],
    ids=str,
)
def test_whatever_a_device_sends_is_no_trouble_of_ours(
    lab: Lab, method: str, path: str, body: bytes
) -> None:
    answer = lab.device().send(method, path, data=body)

    assert (400, "Failed to parse request JSON body") == (
        answer.status_code,
        answer.json()["message"],
    )


def test_a_length_that_is_none_ends_the_connection(
    lab: Lab, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nobody can tell where the next request would begin; and no traceback says so."""
    for url in (lab.urls.gateway, lab.urls.api):
        address = urlsplit(url)
        connection = socket.create_connection((address.hostname, address.port or 0), TIMEOUT_S)
        if address.scheme == "https":
            context = ssl.create_default_context(cafile=lab.factory.paths.root)
            connection = context.wrap_socket(connection, server_hostname="localhost")
        with connection:
            connection.sendall(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n")
            assert b"" == connection.recv(1000)

    assert "Traceback" not in capfd.readouterr().err
