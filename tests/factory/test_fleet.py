"""The operator API about more than one device: lists, groups, the deny list, who is called what."""

from __future__ import annotations

import pytest

from tests.factory.conftest import Lab
from tests.factory.operator import Operator, refused
from tests.factory.test_events import event


def uuids(operator: Operator, query: str) -> list[str]:
    answer = operator.send("GET", query)
    assert 200 == answer.status_code
    return [device["uuid"] for device in answer.json()["devices"]]


# --- devices ---


def test_a_list_comes_in_pages(lab: Lab, operator: Operator) -> None:
    """The address in "next" is followed by fioctl as it is."""
    for number in range(3):
        lab.device(f"device-{number}")

    first = operator.send("GET", "?factory=lab-factory&limit=2").json()
    second = operator.ask("GET", first["next"]).json()

    found = [device["uuid"] for device in first["devices"] + second["devices"]]
    assert ["device-0", "device-1", "device-2"] == found
    assert (3, 3, None) == (first["total"], second["total"], second["next"])
    assert [] == uuids(operator, "?limit=2&page=3")


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "page=0", "page=x", "limit=-1"])
def test_a_page_that_cannot_be(operator: Operator, query: str) -> None:
    refused(operator.send("GET", f"?{query}"), 400, "cannot list")


def test_a_list_may_be_filtered_as_fioctl_does(lab: Lab, operator: Operator) -> None:
    """By a pattern of names, uuid, group, tag and target; sorted by name or last call."""
    for name in ("shop-1", "shop-2", "depot-1"):
        lab.device(name).get("/device", x_ats_tags="main,devel", x_ats_target=f"{name}-lmp")
        lab.clock.tick()
    lab.factory.set_group("depot-1", "depot")

    assert ["shop-1", "shop-2"] == uuids(operator, "?name=shop-*")
    assert ["shop-2"] == uuids(operator, "?name=shop-?&uuid=shop-2")
    assert ["depot-1"] == uuids(operator, "?group=depot")
    assert 3 == len(uuids(operator, "?match_tag=devel&prod=0"))
    assert [] == uuids(operator, "?match_tag=dev")
    assert [] == uuids(operator, "?prod=1")
    assert ["shop-2"] == uuids(operator, "?target_name=shop-2-lmp")
    assert ["depot-1", "shop-1", "shop-2"] == uuids(operator, "?sortby=name")
    assert ["depot-1", "shop-2", "shop-1"] == uuids(operator, "?sortby=-last_seen")


def test_a_device_is_shown_in_the_types_that_fioctl_reads(lab: Lab, operator: Operator) -> None:
    """Times are texts, and empty if there is none; lists are lists."""
    lab.device().get("/device", x_ats_dockerapps="shell,web")

    shown = operator.send("GET", "device-1/").json()

    assert shown["last-seen"].endswith("Z")
    assert (["shell", "web"], None) == (shown["docker-apps"], shown["group"])


def test_a_device_has_a_name_beside_its_uuid(lab: Lab, operator: Operator) -> None:
    """With by-uuid=1 fioctl insists on the uuid; a name is had once."""
    lab.device("device-1")
    lab.device("device-2")

    assert 200 == operator.send("PATCH", "device-1/", json={"name": "till 1"}).status_code

    assert "device-1" == operator.send("GET", "till 1/").json()["uuid"]
    assert "till 1" == operator.send("GET", "device-1/?by-uuid=1").json()["name"]
    assert 404 == operator.send("GET", "till 1/?by-uuid=1").status_code
    assert 404 == operator.send("GET", "till 1/?factory=other").status_code
    for name in ("till 1", "device-1"):
        refused(operator.send("PATCH", "device-2/", json={"name": name}), 409, "another one")


@pytest.mark.parametrize(
    "change", [{"name": ""}, {"name": "a/b"}, {"name": 1}, {"uuid": "x"}, {"group": None}, []]
)
def test_a_change_that_will_not_do(lab: Lab, operator: Operator, change: object) -> None:
    lab.device()

    assert 400 == operator.send("PATCH", "device-1/", json=change).status_code

    assert "device-1" == operator.send("GET", "device-1/").json()["name"]


def test_half_a_change_is_none(lab: Lab, operator: Operator) -> None:
    """The group is not there: the name stays, too."""
    lab.device()

    change = {"name": "till", "group": "nowhere"}
    refused(operator.send("PATCH", "device-1/", json=change), 404, "device group nowhere")

    assert "device-1" == operator.send("GET", "device-1/").json()["name"]


def test_updates_come_in_pages(lab: Lab, operator: Operator) -> None:
    device = lab.device()
    device.send("POST", "/events", json=[event(n, f"certs-{n}") for n in range(3)])

    first = operator.send("GET", "device-1/updates/?limit=2").json()

    second = operator.ask("GET", first["next"]).json()
    found = [update["correlation-id"] for update in first["updates"] + second["updates"]]
    assert ["certs-2", "certs-1", "certs-0"] == found


# --- deletion and the deny list ---


def test_a_deleted_device_is_let_in_with_no_key(lab: Lab, operator: Operator) -> None:
    """Neither the one it had nor a new one; its words are those of update-server."""
    device = lab.device()

    assert 200 == operator.send("DELETE", "device-1/").status_code

    for client in (device, lab.client(lab.credential("device-1"))):
        answer = client.get("/config")
        said = "Device(device-1) is on the denied list"
        assert (403, said) == (answer.status_code, answer.text)
    denied = operator.factory("GET", "denied-devices/?limit=10&page=1").json()
    assert {"devices": [{"uuid": "device-1", "name": "device-1"}], "total": 1, "next": None} == (
        denied
    )
    body = {"client.pem": lab.credential("device-1").certificate_file.read_text()}
    refused(operator.send("PUT", "", json=body), 409, "is on the denied list")
    assert [] == lab.factory.all_devices()


def test_nothing_of_a_deleted_device_is_kept(lab: Lab, operator: Operator) -> None:
    """One that comes back under its uuid starts anew."""
    device = lab.device()
    device.send("POST", "/events", json=[event(1)])
    lab.factory.set_config("device-1", {"a": b"secret"}, plain=True)
    operator.send("DELETE", "device-1/")

    assert 200 == operator.factory("DELETE", "denied-devices/device-1/").status_code

    assert 204 == device.get("/config").status_code
    assert [] == lab.factory.events("device-1")
    assert [] == operator.send("GET", "device-1/config/").json()["config"]
    refused(operator.factory("DELETE", "denied-devices/device-1/"), 404, "not on the denied list")


def test_a_key_that_was_replaced_does_not_bring_a_device_back(lab: Lab, operator: Operator) -> None:
    """Not even off the deny list: whoever has the old key is not the device."""
    old = lab.device()
    new = lab.client(lab.credential())
    assert 200 == old.announce(new.public_key).status_code
    assert 200 == new.get("/device").status_code
    operator.send("DELETE", "device-1/")
    operator.factory("DELETE", "denied-devices/device-1/")

    assert 403 == old.get("/device").status_code
    assert 200 == new.get("/device").status_code


# --- groups ---


def test_groups_are_made_listed_changed_and_deleted(lab: Lab, operator: Operator) -> None:
    """In the shapes that fioctl reads; 409 where it says why by itself."""
    made = operator.factory("POST", "device-groups/", json={"name": "shop", "description": "s"})
    assert (201, "shop", "s") == (made.status_code, made.json()["name"], made.json()["description"])
    refused(operator.factory("POST", "device-groups/", json={"name": "shop"}), 409, "there is one")
    assert [made.json()] == operator.factory("GET", "device-groups/").json()["groups"]
    device = lab.device()
    operator.send("PATCH", "device-1/", json={"group": "shop"})
    lab.factory.set_group_config("shop", {"a": b"x"})

    refused(operator.factory("DELETE", "device-groups/shop/"), 409, "it has devices")
    change = {"name": "store", "description": "t"}
    assert 200 == operator.factory("PATCH", "device-groups/shop/", json=change).status_code

    assert "store" == device.get("/device").json()["group_name"]
    assert {"a"} == set(device.get("/config").json())
    operator.send("PATCH", "device-1/", json={"group": ""})
    assert 200 == operator.factory("DELETE", "device-groups/store/").status_code
    assert [] == operator.factory("GET", "device-groups/").json()["groups"]
    for method in ("PATCH", "DELETE"):
        refused(operator.factory(method, "device-groups/store/", json={}), 404, "there is none")


@pytest.mark.parametrize(
    "body", [{}, {"name": ""}, {"name": "a b"}, {"name": 1}, {"name": "a", "id": "1"}]
)
def test_a_group_that_cannot_be(operator: Operator, body: object) -> None:
    assert 400 == operator.factory("POST", "device-groups/", json=body).status_code

    assert [] == operator.factory("GET", "device-groups/").json()["groups"]


def test_another_factory_is_not_here(operator: Operator) -> None:
    for path in ("device-groups/", "config/", "denied-devices/", "oauth/"):
        assert 404 == operator.ask("GET", f"/ota/factories/other/{path}").status_code


# --- names that would mean something else ---


def test_a_name_that_is_taken_is_not_taken_by_a_newcomer(lab: Lab, operator: Operator) -> None:
    """Else a command for the one would hit the other."""
    lab.device("device-1")
    operator.send("PATCH", "device-1/", json={"name": "till-7"})

    lab.device("till-7")
    lab.factory.add_device(lab.tmp_path / "third", "third")

    names = {each["uuid"]: each["name"] for each in operator.send("GET", "").json()["devices"]}
    assert {"device-1": "till-7", "till-7": "till-7-2", "third": "third"} == names
    assert "device-1" == operator.send("GET", "till-7/").json()["uuid"]
    assert "till-7" == operator.send("GET", "till-7-2/").json()["uuid"]


@pytest.mark.parametrize("name", ["a/b", "x\ny", "<img src=x>", "a.b"])
def test_a_device_whose_name_no_address_can_hold_is_not_registered(lab: Lab, name: str) -> None:
    """As in the other ways to register."""
    answer = lab.client(lab.credential(name)).get("/config")

    assert (403, True) == (answer.status_code, "letters, digits and hyphens" in answer.text)
    assert [] == lab.factory.all_devices()


@pytest.mark.parametrize("name", [".", ".."])
def test_a_name_is_not_a_way_up(lab: Lab, operator: Operator, name: str) -> None:
    """A client that tidies its addresses would come to another one."""
    lab.device()

    refused(operator.send("PATCH", "device-1/", json={"name": name}), 400, "is not . or ..")
    refused(operator.factory("POST", "device-groups/", json={"name": name}), 400, "is not . or ..")
