"""GET /config, GET /config-device and who may write what they show."""

from __future__ import annotations

import base64
from email.utils import formatdate

import pytest
import requests

from fioagent.factory import FactoryError
from fioagent.factory.fleet.ecies import decrypt
from tests.factory.conftest import Lab
from tests.factory.peers import Client

HANDLER = "/usr/share/fioconfig/handlers/none"


def test_nothing_was_ever_set(lab: Lab) -> None:
    """204 without a body, of the layer and of the whole."""
    device = lab.device()

    for path in ("/config", "/config-device"):
        answer = device.get(path)
        assert (204, b"") == (answer.status_code, answer.content)
        assert "Content-Type" not in answer.headers


def test_a_config_is_dated_with_its_change(lab: Lab) -> None:
    """200 with the time of the change as Date, ending in UTC as update-server writes it."""
    device = lab.device()
    lab.factory.set_config("device-1", {"greeting": b"hi\n"}, plain=True, on_changed=HANDLER)
    changed = formatdate(lab.clock.now, usegmt=True).replace("GMT", "UTC")
    lab.clock.tick(1000)

    answer = device.get("/config")

    assert (200, "application/json") == (answer.status_code, answer.headers["Content-Type"])
    assert changed == answer.headers["Date"]
    entry = {"Value": "hi\n", "Unencrypted": True, "OnChanged": [HANDLER]}
    assert {"greeting": entry} == answer.json()


def test_an_unchanged_config_is_304_in_both_spellings_of_the_zone(lab: Lab) -> None:
    """And then the Date is the present one."""
    device = lab.device()
    lab.factory.set_config("device-1", {"greeting": b"hi"}, plain=True)
    date = device.get("/config").headers["Date"]

    for spelled in (date, date.replace("UTC", "GMT")):
        answer = device.get("/config", If_Modified_Since=spelled)
        assert (304, b"") == (answer.status_code, answer.content)
        assert answer.headers["Date"].endswith("GMT")


@pytest.mark.parametrize("value", ["yesterday", "2026-11-20", "Fri, 20 Nov 2026 23:49:47 CEST", ""])
def test_a_date_it_cannot_read_is_ignored(lab: Lab, value: str) -> None:
    """A full answer is always right."""
    device = lab.device()
    lab.factory.set_config("device-1", {"greeting": b"hi"}, plain=True)

    assert 200 == device.get("/config", If_Modified_Since=value).status_code


def test_a_change_within_the_same_second_goes_unseen(lab: Lab) -> None:
    """The public gateways count whole seconds; a device must live with that."""
    device = lab.device()
    lab.factory.set_config("device-1", {"greeting": b"hi"}, plain=True)
    date = device.get("/config").headers["Date"]

    lab.factory.set_config("device-1", {"greeting": b"hello"}, plain=True)
    assert 304 == device.get("/config", If_Modified_Since=date).status_code

    lab.clock.tick()
    lab.factory.set_config("device-1", {"greeting": b"welcome"}, plain=True)
    assert 200 == device.get("/config", If_Modified_Since=date).status_code


def test_values_are_encrypted_to_the_device(lab: Lab) -> None:
    """Binary as well; and an empty one is the empty value of fioctl."""
    device = lab.device()
    assert device.credential is not None

    lab.factory.set_config("device-1", {"certs/secret": b"\x00\xff", "empty": b""})

    shown = device.get("/config").json()
    assert b"\x00\xff" == decrypt(shown["certs/secret"]["Value"], device.credential.key)
    assert {"Value": ""} == shown["empty"]
    assert device.public_key == lab.factory.device("device-1").config_public_key_pem


def test_layers_replace_whole_entries(lab: Lab) -> None:
    """Factory, then device: the device's entry without a handler has none."""
    device = lab.device()
    below = {"a": b"factory", "b": b"factory"}
    lab.factory.set_factory_config(below, on_changed=HANDLER)
    lab.factory.set_config("device-1", {"b": b"device"}, plain=True)

    shown = device.get("/config").json()

    assert {"Value": "factory", "Unencrypted": True, "OnChanged": [HANDLER]} == shown["a"]
    assert {"Value": "device", "Unencrypted": True} == shown["b"]
    assert {"b": shown["b"]} == device.get("/config-device").json()


def test_a_group_stands_between_factory_and_device(lab: Lab) -> None:
    """And joining one is a change of configuration, even an empty one."""
    device = lab.device()
    lab.factory.set_factory_config({"a": b"factory", "b": b"factory", "c": b"factory"})
    lab.factory.set_group_config("shop", {"b": b"group", "c": b"group"})
    lab.factory.set_config("device-1", {"c": b"device"}, plain=True)
    date = device.get("/config").headers["Date"]
    lab.clock.tick()

    lab.factory.set_group("device-1", "shop")

    shown = device.get("/config", If_Modified_Since=date).json()
    values = {name: entry["Value"] for name, entry in shown.items()}
    assert {"a": "factory", "b": "group", "c": "device"} == values
    assert "shop" == device.get("/device").json()["group_name"]


def test_one_file_is_merged_inside(lab: Lab) -> None:
    """z-50-fioctl.toml: sections and keys of both layers, the device's win."""
    device = lab.device()
    name = "z-50-fioctl.toml"
    factory = b'[pacman]\n  tags = "main"\n  packagemanager = "x"\n[logger]\n  loglevel = 1\n'
    lab.factory.set_factory_config({name: factory})
    lab.factory.set_config("device-1", {name: b'[pacman]\n  tags = "devel"\n'}, plain=True)

    value = device.get("/config").json()[name]["Value"]

    merged = '[pacman]\n  tags = "devel"\n  packagemanager = "x"\n[logger]\n  loglevel = 1\n'
    assert merged == value


def test_a_removed_file_is_a_change(lab: Lab) -> None:
    """An empty object, not 204: the device is to remove everything."""
    device = lab.device()
    lab.factory.set_config("device-1", {"greeting": b"hi"}, plain=True)
    date = device.get("/config").headers["Date"]
    lab.clock.tick()

    assert lab.factory.remove_config("device-1", "greeting")
    assert not lab.factory.remove_config("device-1", "greeting")

    answer = device.get("/config", If_Modified_Since=date)
    assert (200, {}) == (answer.status_code, answer.json())


def test_the_trigger_is_the_one_of_fioctl(lab: Lab) -> None:
    """Contract 5.1, to the byte."""
    device = lab.device()

    assert "certs-7" == lab.factory.rotate_certs(
        "device-1", est_url="https://e", rotation_id="certs-7"
    )

    assert {
        "fio-rotate-certs": {
            "Value": "ESTSERVER=https://e\nPKEYIDS=01,07\nCERTIDS=03,09\nROTATIONID=certs-7\n",
            "Unencrypted": True,
            "OnChanged": ["/usr/share/fioconfig/handlers/renew-client-cert"],
        }
    } == device.get("/config").json()


def test_a_plain_value_must_be_text(lab: Lab) -> None:
    lab.device()

    with pytest.raises(FactoryError, match="must be UTF-8 text"):
        lab.factory.set_config("device-1", {"a": b"\xff"}, plain=True)

    assert {} == lab.factory.device("device-1").config


# --- the device's own PATCH /config ---


def test_a_device_may_change_its_layer(lab: Lab) -> None:
    """Merged, 201 with an empty object, and the key is remembered."""
    device = lab.device()
    lab.factory.set_config("device-1", {"kept": b"k"}, plain=True)

    answer = device.patch_config(device.public_key, secret=base64.b64encode(b"x").decode())

    assert (201, {}) == (answer.status_code, answer.json())
    known = lab.factory.device("device-1")
    assert {"kept", "secret"} == set(known.config)
    assert device.public_key == known.config_public_key_pem


def test_the_init_call_names_no_key(lab: Lab) -> None:
    """The public-key is empty then; what is recorded stays."""
    device = lab.device()

    assert 201 == device.patch_config("", actions="list").status_code
    assert "" == lab.factory.device("device-1").config_public_key_pem


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"files": [{}]}', b'{"files": [{"name": "a", "value": 1}]}',
     b'{"files": [], "public-key": "no key"}', b'{"files": [{"name": "", "value": ""}]}'],
)  # fmt: skip
def test_a_body_it_cannot_read_changes_nothing(lab: Lab, body: bytes) -> None:
    device = lab.device()

    assert 400 == device.send("PATCH", "/config", data=body).status_code
    assert 204 == device.get("/config").status_code


@pytest.mark.parametrize(("value", "status"), [("409", 409), ("accept", 201)])
def test_values_for_a_foreign_key(lab: Lab, value: str, status: int) -> None:
    """Refused by default: nobody could read them."""
    lab.factory.set_knob("foreign_public_key", value)
    device = lab.device()

    answer = device.patch_config(lab.credential("other").public_key, secret="eA==")

    assert status == answer.status_code
    assert (status == 201) == ("secret" in lab.factory.device("device-1").config)


def test_a_patch_that_fails_changes_nothing(lab: Lab) -> None:
    lab.factory.set_knob("gateway_patch_config", "500")
    device = lab.device()

    assert 500 == device.patch_config(device.public_key, a="eA==").status_code
    assert {} == lab.factory.device("device-1").config


def test_a_patch_whose_answer_is_lost_has_happened(lab: Lab) -> None:
    lab.factory.set_knob("gateway_patch_config", "drop-after")
    device: Client = lab.device()

    with pytest.raises(requests.ConnectionError):
        device.patch_config(device.public_key, a="eA==")

    assert {"a"} == set(lab.factory.device("device-1").config)


def test_a_clock_that_is_set_back_hides_no_change(lab: Lab) -> None:
    """Nor does a second writer who was given its time earlier, and its turn later."""
    device = lab.device()
    lab.factory.set_config("device-1", {"greeting": b"hi"}, plain=True)
    lab.clock.tick(10)
    lab.factory.set_config("device-1", {"greeting": b"hello"}, plain=True)
    date = device.get("/config").headers["Date"]
    lab.clock.tick(-5)

    lab.factory.set_config("device-1", {"greeting": b"welcome"}, plain=True)

    lab.clock.tick(-5)
    assert date == device.get("/config").headers["Date"]
    assert b"welcome" in device.get("/config").content
