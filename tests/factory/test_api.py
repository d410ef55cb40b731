"""The operator API: what fioctl asks for one device."""

from __future__ import annotations

import base64

import pytest

from tests.factory.conftest import Lab
from tests.factory.operator import Operator
from tests.factory.test_events import event

CHANGE = {
    "reason": "test",
    "files": [{"name": "a", "value": "x", "unencrypted": True, "on-changed": ["/h"]}],
}


@pytest.mark.parametrize("token", ["", "wrong", "\u00e9".encode().decode("latin-1")])
def test_without_the_token_nothing_is_told(lab: Lab, operator: Operator, token: str) -> None:
    answer = operator.send("GET", "", headers={"OSF-TOKEN": token.encode("latin-1")})

    assert 401 == answer.status_code


def test_the_token_may_come_as_oauth_has_it(lab: Lab, operator: Operator) -> None:
    """fioctl: ``Authorization: Bearer`` and the token in base64."""
    token = lab.factory.paths.api_token.read_text().strip().encode()

    def status(sent: bytes) -> int:
        headers = {"OSF-TOKEN": None, "Authorization": "Bearer " + sent.decode()}
        return operator.send("GET", "", headers=headers).status_code

    assert status(base64.b64encode(token)) == 200
    assert status(base64.b64encode(token[:-1])) == 401
    assert status(token) == 401


def test_devices_are_listed_with_their_keys(lab: Lab, operator: Operator) -> None:
    """The field that an operator looks at after a rotation is public-key."""
    device = lab.device()

    listed = operator.send("GET", "?factory=lab-factory").json()
    one = operator.send("GET", "device-1/?factory=lab-factory").json()

    assert (1, None) == (listed["total"], listed["next"])
    assert [one] == [{**device, "group": None} for device in listed["devices"]]
    assert ("device-1", device.public_key) == (one["uuid"], one["public-key"])
    assert 404 == operator.send("GET", "?factory=other").status_code
    assert 404 == operator.send("GET", "device-2/").status_code


def test_a_change_reaches_the_device(lab: Lab, operator: Operator) -> None:
    """The other spelling of the members here, and files not named stay."""
    device = lab.device()
    lab.factory.set_config("device-1", {"kept": b"k"}, plain=True)

    assert 201 == operator.send("PATCH", "device-1/config/", json=CHANGE).status_code

    shown = device.get("/config").json()
    assert {"Value": "x", "Unencrypted": True, "OnChanged": ["/h"]} == shown["a"]
    newest = operator.send("GET", "device-1/config/").json()["config"][0]
    assert {"name": "a", "value": "x", "unencrypted": True, "on-changed": ["/h"]} in newest["files"]
    assert {"a", "kept"} == {file["name"] for file in newest["files"]}
    assert 200 == operator.send("DELETE", "device-1/config/kept/").status_code
    assert 404 == operator.send("DELETE", "device-1/config/kept/").status_code
    assert {"a"} == set(device.get("/config").json())


def test_a_locked_device_refuses_changes_with_a_message(lab: Lab, operator: Operator) -> None:
    """Fioctl shows the member "message"."""
    device = lab.device()
    device.announce(lab.credential().public_key)

    for method, path in (("PATCH", "device-1/config/"), ("DELETE", "device-1/config/a/")):
        answer = operator.send(method, path, json=CHANGE)
        assert 409 == answer.status_code
        assert "is locked" in answer.json()["message"]


def test_a_body_it_cannot_read_is_refused(lab: Lab, operator: Operator) -> None:
    lab.device()

    assert 400 == operator.send("PATCH", "device-1/config/", data=b"{").status_code


def test_updates_have_the_shape_that_fioctl_reads(lab: Lab, operator: Operator) -> None:
    device = lab.device()
    device.send("POST", "/events", json=[event(1), event(2, "certs-2")])

    listed = operator.send("GET", "device-1/updates/").json()
    one = operator.send("GET", "device-1/updates/certs-1/").json()

    assert ["certs-2", "certs-1"] == [update["correlation-id"] for update in listed["updates"]]
    assert {"correlation-id", "target", "version", "time"} == set(listed["updates"][0])
    assert [event(1)] == one
