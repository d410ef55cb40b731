"""Lock, switch-over and deny list: what no public gateway has."""

from __future__ import annotations

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fioagent.factory import LockedError
from fioagent.factory.pki.certificates import key_digest
from tests.factory.conftest import Lab
from tests.factory.peers import Client, spki_pem


def locked(lab: Lab) -> tuple[Client, Client]:
    """A device that has announced its next key, and its client with that key."""
    old = lab.device()
    new = lab.client(lab.credential())
    assert 200 == old.announce(new.public_key).status_code
    return old, new


def switched(lab: Lab) -> tuple[Client, Client]:
    old, new = locked(lab)
    assert 200 == new.get("/device").status_code
    return old, new


# --- the lock ---


def test_announcing_a_key_locks_and_changes_nothing_else(lab: Lab) -> None:
    """200 exactly, with an empty object; the old key goes on being served."""
    old = lab.device()
    key = spki_pem(ec.generate_private_key(ec.SECP384R1()))

    answer = old.announce(key)

    assert (200, {}) == (answer.status_code, answer.json())
    known = lab.factory.device("device-1")
    assert (old.public_key, key) == (known.public_key_pem, known.next_public_key_pem)
    shown = old.get("/device").json()
    assert old.public_key == shown["pubkey"]
    assert "next_pubkey" not in shown


def test_announcing_the_same_key_again_is_no_change(lab: Lab) -> None:
    """A client that crashed before it noted our answer repeats the request."""
    old, new = locked(lab)

    assert 200 == old.announce(new.public_key).status_code
    assert new.public_key == lab.factory.device("device-1").next_public_key_pem


def test_announcing_the_present_key_does_not_lock(lab: Lab) -> None:
    """The same request once more, after a switch-over that the client has not noted."""
    _, new = switched(lab)

    assert 200 == new.announce(new.public_key).status_code
    assert lab.factory.device("device-1").next_public_key_pem is None


@pytest.mark.parametrize(("value", "status"), [("409", 409), ("replace", 200)])
def test_announcing_another_key_while_locked(lab: Lab, value: str, status: int) -> None:
    lab.factory.set_knob("second_lock", value)
    old, new = locked(lab)
    third = lab.client(lab.credential())

    assert status == old.announce(third.public_key).status_code

    expected = third if value == "replace" else new
    assert expected.public_key == lab.factory.device("device-1").next_public_key_pem


def rsa_pem() -> str:
    key = rsa.generate_private_key(65537, 2048).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize("value", ["", "no key", 7, None, rsa_pem()])
def test_a_key_it_cannot_use_is_refused(lab: Lab, value: object) -> None:
    device = lab.device()

    assert 400 == device.send("PATCH", "/device", json={"next_pubkey": value}).status_code
    assert lab.factory.device("device-1").next_public_key_pem is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff"])
def test_a_lock_request_it_cannot_read_is_refused(lab: Lab, body: bytes) -> None:
    assert 400 == lab.device().send("PATCH", "/device", data=body).status_code


def test_a_denied_key_cannot_come_back(lab: Lab) -> None:
    old, new = switched(lab)

    assert 400 == new.announce(old.public_key).status_code


def test_a_lock_whose_answer_is_lost_holds(lab: Lab) -> None:
    lab.factory.set_knob("patch_device_lose_answer", "on")
    device = lab.device()
    key = lab.credential().public_key

    with pytest.raises(requests.ConnectionError):
        device.announce(key)

    assert key == lab.factory.device("device-1").next_public_key_pem


def test_a_lock_may_lapse(lab: Lab) -> None:
    """Then the announced key is a stranger again, and operators may write."""
    lab.factory.set_knob("lock_lifetime_s", "60")
    _, new = locked(lab)
    lab.clock.tick(60)
    assert lab.factory.device("device-1").next_public_key_pem is not None

    lab.clock.tick(1)

    assert lab.factory.device("device-1").next_public_key_pem is None
    assert 502 == new.get("/device").status_code
    lab.factory.set_config("device-1", {"a": b"b"})


# --- writes while locked ---


def test_operators_may_not_write_while_locked(lab: Lab) -> None:
    """They encrypt to the key they read, which may be the old one in a moment."""
    locked(lab)

    with pytest.raises(LockedError, match="is locked"):
        lab.factory.set_config("device-1", {"a": b"b"})
    with pytest.raises(LockedError):
        lab.factory.remove_config("device-1", "a")
    with pytest.raises(LockedError):
        lab.factory.rotate_certs("device-1")

    assert {} == lab.factory.device("device-1").config
    lab.factory.set_factory_config({"a": b"b"})  # no source says that this is refused


def test_the_knob_lets_operators_write_while_locked(lab: Lab) -> None:
    lab.factory.set_knob("operator_write_locked", "accept")
    old, _ = locked(lab)

    lab.factory.set_config("device-1", {"a": b"b"})

    assert old.public_key == lab.factory.device("device-1").config_public_key_pem


def test_the_device_may_write_for_its_next_key_only(lab: Lab) -> None:
    old, new = locked(lab)

    assert 409 == old.patch_config(old.public_key, a="eA==").status_code
    assert 409 == old.patch_config("", a="eA==").status_code
    assert 201 == old.patch_config(new.public_key, a="eA==").status_code
    assert new.public_key == lab.factory.device("device-1").config_public_key_pem


@pytest.mark.parametrize(("value", "expected"), [("new", "bmV3"), ("old", "b2xk")])
def test_what_the_config_shows_between_patch_and_switch_over(
    lab: Lab, value: str, expected: str
) -> None:
    """/config-device always shows what was written; after the switch-over both do."""
    lab.factory.set_knob("config_while_locked", value)
    device = lab.device()
    device.patch_config(device.public_key, secret="b2xk")
    new = lab.client(lab.credential())
    device.announce(new.public_key)
    for _ in range(2):  # a repeated PATCH must not make the new values the old ones
        device.patch_config(new.public_key, secret="bmV3")

    assert expected == device.get("/config").json()["secret"]["Value"]
    assert "bmV3" == device.get("/config-device").json()["secret"]["Value"]

    assert "bmV3" == new.get("/config").json()["secret"]["Value"]


# --- the switch-over ---


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/config"), ("GET", "/device"), ("POST", "/events"), ("PATCH", "/device")],
)
def test_any_request_with_the_next_key_switches_over(lab: Lab, method: str, path: str) -> None:
    """Not the agent's own only, and not only one that succeeds."""
    old, new = locked(lab)

    new.send(method, path)

    known = lab.factory.device("device-1")
    assert (new.public_key, None) == (known.public_key_pem, known.next_public_key_pem)
    assert (key_digest(old.public_key),) == known.denied


def test_a_switch_over_is_announced_once(lab: Lab) -> None:
    """DEVICE_PUBKEY_CHANGE with both keys, as the event queue would carry it."""
    old, new = switched(lab)
    new.get("/device")

    (event,) = lab.factory.outbox("DEVICE_PUBKEY_CHANGE")

    assert {
        "type": "DEVICE_PUBKEY_CHANGE",
        "Uuid": "device-1",
        "DeviceGroupId": None,
        "Time": int(lab.clock.now),
        "NewPubKey": new.public_key,
        "OldPubKey": old.public_key,
    } == event


@pytest.mark.parametrize(("value", "status"), [("403", 403), ("401", 401), ("502", 502)])
def test_the_old_key_is_refused_at_the_next_request(lab: Lab, value: str, status: int) -> None:
    """On the very connection that was served before."""
    lab.factory.set_knob("old_key", value)
    old, _ = switched(lab)
    lab.factory.clear_requests()

    answer = old.get("/device")

    assert status == answer.status_code
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert (0, 0) == lab.factory.handshakes("gateway")


def test_the_old_key_may_be_hung_up_on(lab: Lab) -> None:
    lab.factory.set_knob("old_key", "drop")
    old, new = switched(lab)

    with pytest.raises(requests.ConnectionError):
        old.get("/device")
    assert 200 == new.get("/device").status_code


def test_a_switch_over_whose_answer_is_lost_has_happened(lab: Lab) -> None:
    """Once: the next request with the new key is answered."""
    lab.factory.set_knob("switch_lose_answer", "on")
    _, new = locked(lab)

    with pytest.raises(requests.ConnectionError):
        new.send("POST", "/events", json=[])

    assert 200 == new.get("/device").status_code
    assert 1 == len(lab.factory.outbox("DEVICE_PUBKEY_CHANGE"))


def test_keys_of_one_device_mean_nothing_to_another(lab: Lab) -> None:
    """Announced and denied keys belong to a name."""
    old, new = switched(lab)
    assert old.credential is not None

    other = lab.client(lab.credential("device-2", key=old.credential.key))

    assert 200 == other.get("/device").status_code
    assert 200 == new.get("/device").status_code


def test_a_second_rotation_denies_both_former_keys(lab: Lab) -> None:
    first, second = switched(lab)
    third = lab.client(lab.credential())
    second.announce(third.public_key)
    third.get("/device")

    assert [403, 403, 200] == [c.get("/device").status_code for c in (first, second, third)]
    assert 2 == len(lab.factory.device("device-1").denied)


def test_a_lock_that_is_taken_back_forgets_what_was_before_it(lab: Lab) -> None:
    """The device announces its own key; at the next lock its values are those of then."""
    lab.factory.set_knob("second_lock", "replace")
    lab.factory.set_knob("config_while_locked", "old")
    device, other = lab.device(), lab.client(lab.credential())
    lab.factory.set_config("device-1", {"greeting": b"one"}, plain=True)
    device.announce(other.public_key)
    assert 201 == device.patch_config(other.public_key, greeting="patched").status_code

    assert 200 == device.announce(device.public_key).status_code

    assert lab.factory.device("device-1").next_public_key_pem is None
    lab.factory.set_config("device-1", {"greeting": b"two"}, plain=True)
    device.announce(other.public_key)
    assert "two" == device.get("/config").json()["greeting"]["Value"]
