"""The operator API about configuration: of a device, a group and the factory, and its log."""

from __future__ import annotations

from typing import Any

import pytest

from fioagent.factory.fleet.configs import MAX_LAYER
from tests.factory.conftest import Lab
from tests.factory.operator import Operator, refused

DEVICE = "/ota/devices/device-1/config/"
GROUP = "/ota/factories/lab-factory/device-groups/shop/config/"
FACTORY = "/ota/factories/lab-factory/config/"
EVERY = pytest.mark.parametrize("path", [DEVICE, GROUP, FACTORY])


def change(reason: str = "why", **files: str) -> dict[str, Any]:
    """As fioctl sends it for files that are not encrypted."""
    listed = [{"name": name, "value": value, "unencrypted": True} for name, value in files.items()]
    return {"reason": reason, "files": listed}


def names(version: dict[str, Any]) -> set[str]:
    return {file["name"] for file in version["files"]}


@EVERY
def test_each_change_is_a_version_with_all_files(lab: Lab, operator: Operator, path: str) -> None:
    """PATCH merges, POST replaces, DELETE takes one away; the newest comes first."""
    lab.device()
    lab.factory.set_group("device-1", "shop")

    assert 201 == operator.ask("POST", path, json=change("first", a="1", b="1")).status_code
    assert 201 == operator.ask("PATCH", path, json=change("second", b="2", c="2")).status_code
    assert 200 == operator.ask("DELETE", f"{path}a/").status_code
    assert 404 == operator.ask("DELETE", f"{path}a/").status_code
    assert 201 == operator.ask("POST", path, json=change("last", d="3")).status_code

    log = operator.ask("GET", path).json()
    assert [{"d"}, {"b", "c"}, {"a", "b", "c"}, {"a", "b"}] == [names(v) for v in log["config"]]
    reasons = [version["reason"] for version in log["config"]]
    assert ["last", "Delete a", "second", "first"] == reasons
    assert (4, None) == (log["total"], log["next"])
    newest = log["config"][0]
    assert {"created-at", "created-by", "applied-at", "reason", "files"} == set(newest)
    assert ("operator", "") == (newest["created-by"], newest["applied-at"])
    assert [{"name": "d", "value": "3", "unencrypted": True}] == newest["files"]


@EVERY
def test_the_last_ten_versions_are_kept(lab: Lab, operator: Operator, path: str) -> None:
    lab.device()
    lab.factory.set_group("device-1", "shop")

    for number in range(12):
        operator.ask("PATCH", path, json=change(str(number), a=str(number)))

    log = operator.ask("GET", f"{path}?limit=4").json()
    assert (10, "11") == (log["total"], log["config"][0]["reason"])
    last = operator.ask("GET", f"{path}?limit=4&page=3").json()["config"]
    assert ["3", "2"] == [version["reason"] for version in last]


@EVERY
def test_a_configuration_has_a_megabyte(lab: Lab, operator: Operator, path: str) -> None:
    """413 above, whether at once or bit by bit; nothing has changed then."""
    lab.device()
    lab.factory.set_group("device-1", "shop")
    much = "x" * (MAX_LAYER // 2)
    assert 201 == operator.ask("PATCH", path, json=change(a=much)).status_code

    refused(operator.ask("PATCH", path, json=change(b=much)), 413, "cannot set the configuration")
    assert 413 == operator.ask("POST", path, json=change(b=much * 5)).status_code

    (version,) = operator.ask("GET", path).json()["config"]
    assert {"a"} == names(version)


@EVERY
@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[" * 5000, b'{"files": [], "reason": 1}', b'{"files": [], "reason": "\\ud800"}'],
)
def test_a_body_that_is_no_change(lab: Lab, operator: Operator, path: str, body: bytes) -> None:
    lab.device()
    lab.factory.set_group("device-1", "shop")

    for method in ("POST", "PATCH"):
        refused(operator.ask(method, path, data=body), 400, "Failed to parse")

    assert [] == operator.ask("GET", path).json()["config"]


def test_a_group_that_is_not_there_has_no_configuration(operator: Operator) -> None:
    for method in ("GET", "POST", "PATCH"):
        refused(operator.ask(method, GROUP, json=change(a="1")), 404, "there is none")


def test_what_many_devices_share_is_delivered_as_plain(lab: Lab, operator: Operator) -> None:
    """By fioctl they come as encrypted, and are not: a device must not try to open them."""
    device = lab.device()
    lab.factory.set_group("device-1", "shop")
    files = [{"name": "a", "value": "x", "unencrypted": False}]
    for path in (FACTORY, GROUP):
        name = path.split("/")[-3]
        body = {"reason": "", "files": [{**files[0], "name": name}]}
        assert 201 == operator.ask("PATCH", path, json=body).status_code

    shown = device.get("/config").json()

    assert [True, True] == [entry["Unencrypted"] for entry in shown.values()]


def test_applied_at_is_when_the_device_has_fetched_it(lab: Lab, operator: Operator) -> None:
    """The first time, and the version that it has fetched."""
    device = lab.device()
    operator.ask("PATCH", DEVICE, json=change("one", a="1"))
    lab.clock.tick()
    device.get("/config")
    lab.clock.tick()
    device.get("/config")
    operator.ask("PATCH", DEVICE, json=change("two", a="2"))

    two, one = operator.ask("GET", DEVICE).json()["config"]

    assert "" == two["applied-at"]
    assert one["created-at"] < one["applied-at"] < two["created-at"]
    assert "two" == operator.send("GET", "device-1/").json()["active-config"]["reason"]


def test_the_device_s_own_changes_bear_its_name(lab: Lab, operator: Operator) -> None:
    device = lab.device()

    device.patch_config(device.public_key, a="eA==")

    (version,) = operator.ask("GET", DEVICE).json()["config"]
    assert ("device-1", "test") == (version["created-by"], version["reason"])


def test_a_lock_holds_the_device_s_layer_alone(lab: Lab, operator: Operator) -> None:
    """Also against a replacement; group and factory are nobody's secret."""
    device = lab.device()
    lab.factory.set_group("device-1", "shop")
    device.announce(lab.credential().public_key)

    for method, path in (("POST", DEVICE), ("PATCH", DEVICE), ("DELETE", f"{DEVICE}a/")):
        refused(operator.ask(method, path, json=change(a="1")), 409, "is locked")
    for path in (GROUP, FACTORY):
        assert 201 == operator.ask("PATCH", path, json=change(a="1")).status_code


def test_a_group_is_asked_to_rotate(lab: Lab, operator: Operator) -> None:
    """One file in the group's layer reaches each device in it, and no other."""
    inside, outside = lab.device("device-1"), lab.device("device-2")
    lab.factory.set_group("device-1", "shop")
    files = [
        {
            "name": "fio-rotate-certs",
            "value": f"ESTSERVER={lab.urls.est}\nROTATIONID=certs-1\n",
            "unencrypted": True,
            "on-changed": ["/usr/share/fioconfig/handlers/renew-client-cert"],
        }
    ]

    operator.ask("PATCH", GROUP, json={"reason": "yearly", "files": files})

    assert {"fio-rotate-certs"} == set(inside.get("/config").json())
    assert 204 == outside.get("/config").status_code
