"""GET /control/view and what the page's buttons ask for, over real HTTP; and who may see what."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from cryptography import x509

from fioagent.factory import Factory
from fioagent.factory.cli.main import main
from fioagent.factory.fleet import devices
from fioagent.factory.fleet.events import ROTATION
from fioagent.factory.knobs import KNOBS
from fioagent.factory.page.document import DEVICES_SHOWN, ROTATIONS_SHOWN
from fioagent.factory.page.static import FILES
from fioagent.factory.pki.certificates import key_digest
from tests.factory.conftest import Lab
from tests.factory.operator import Operator
from tests.factory.peers import TIMEOUT_S, csr, subject
from tests.factory.test_events import TIME, event


class Viewer(Operator):
    """Somebody with the token, who looks at the page."""

    def view(self, **asked: str) -> dict[str, Any]:
        answer = self.ask("GET", "/control/view", params=asked)
        assert answer.status_code == 200
        shown: dict[str, Any] = answer.json()
        return shown

    def device(self) -> dict[str, Any]:
        (device,) = self.view()["devices"]
        assert isinstance(device, dict)
        return device

    def rotation(self) -> dict[str, Any]:
        (rotation,) = self.view()["rotations"]
        assert isinstance(rotation, dict)
        return rotation

    def looks_again(self, tag: str) -> int:
        return self.ask("GET", "/control/view", headers={"If-None-Match": tag}).status_code

    def tag(self) -> str:
        return self.ask("GET", "/control/view").headers["ETag"]


@pytest.fixture
def operator(lab: Lab) -> Iterator[Viewer]:
    with requests.Session() as session:
        yield Viewer(lab.factory, lab.urls, session)


def step(number: int, name: str, *, identifier: str = "certs-1", **inner: Any) -> dict[str, Any]:
    return {**event(number, identifier, **inner), "eventType": {"id": name, "version": 0}}


# --- devices and certificates ---


def test_a_device_is_shown_with_its_key_certificate_and_lock(lab: Lab, operator: Viewer) -> None:
    """The certificate is the one that it came with."""
    device = lab.device()
    lab.factory.set_group("device-1", "blue")
    coming = lab.credential()
    device.announce(coming.public_key)

    shown = operator.device()

    assert ("device-1", "device-1", "blue") == (shown["uuid"], shown["name"], shown["group"])
    assert (key_digest(device.public_key), 0) == (shown["key"], shown["denied-keys"])
    assert key_digest(coming.public_key) == shown["next-key"]
    assert int(lab.clock.now) == shown["last-seen"]
    assert device.credential is not None
    own = device.credential.certificate
    local_ca = x509.load_pem_x509_certificate((lab.factory.paths.pki / "local-ca.pem").read_bytes())
    assert local_ca.serial_number == int(shown["certificate"]["issuer"], 16)
    assert own.serial_number == int(shown["certificate"]["serial"], 16)
    assert own.not_valid_after_utc.timestamp() == shown["certificate"]["not-after"]
    assert "CN=device-1, OU=lab-factory" == shown["certificate"]["subject"]


def test_a_lock_that_has_lapsed_is_no_lock(lab: Lab, operator: Viewer) -> None:
    """And whoever looked while it held is told, although nothing was written since."""
    lab.factory.set_knob("lock_lifetime_s", "60")
    lab.device().announce(lab.credential().public_key)
    assert operator.device()["next-key"] is not None
    tag = operator.tag()

    lab.clock.tick(61)

    assert 200 == operator.looks_again(tag)
    assert operator.device()["next-key"] is None


def test_the_certificates_of_the_factory_are_shown_with_the_devices_below_them(
    lab: Lab, operator: Viewer
) -> None:
    lab.device()
    for number in (2, 3):
        other = lab.client(lab.credential(f"device-{number}", ca="online-ca"))
        assert other.get("/device").status_code == 200

    shown = operator.view()["authorities"]

    assert {"root": None, "gateway-tls": None, "est-tls": None, "online-ca": 2, "local-ca": 1} == {
        each["role"]: each["devices"] for each in shown
    }
    assert "CN=Factory-CA, OU=lab-factory" == shown[0]["subject"]
    assert {"active"} == {each["state"] for each in shown}
    assert 5 == len({each["serial"] for each in shown})
    root = x509.load_pem_x509_certificate(lab.factory.paths.root.read_bytes())
    assert root.not_valid_before_utc.timestamp() == shown[0]["not-before"]
    assert root.not_valid_after_utc.timestamp() == shown[0]["not-after"]


def test_of_many_devices_the_newest_are_shown(lab: Lab, operator: Viewer) -> None:
    """In the order in which they came, and as many as a page can bear."""
    key = lab.device("device-0").get("/device").json()["pubkey"]
    with lab.factory.store.write() as db:
        for number in range(1, DEVICES_SHOWN + 3):
            devices.register(db, f"device-{number:03}", key, lab.clock() + number)

    view = operator.view()

    assert (DEVICES_SHOWN, DEVICES_SHOWN + 3) == (len(view["devices"]), view["devices-found"])
    uuids = [each["uuid"] for each in view["devices"]]
    assert ["device-003", f"device-{DEVICES_SHOWN + 2}"] == [uuids[0], uuids[-1]]


def test_a_disabled_ca_and_a_fault_are_shown(lab: Lab, operator: Viewer) -> None:
    """What an operator has done, in the next look."""
    online = str(lab.factory.authority("online-ca").certificate.serial_number)
    arguments = [str(lab.factory.paths.directory), str(lab.factory.paths.pki)]
    assert 0 == main(["keys", "ca", "disable-device-ca", *arguments, "--ca-serial", online])
    lab.factory.add_fault("drop", server="est", times=1)

    shown = operator.view()

    assert {"online-ca": "disabled"} == {
        each["role"]: each["state"] for each in shown["authorities"] if each["state"] != "active"
    }
    assert [("drop", "est", 0)] == [
        (each["action"], each["server"], each["hits"]) for each in shown["faults"]
    ]


def test_a_fault_that_acts_is_something_new(lab: Lab, operator: Viewer) -> None:
    device = lab.device()
    lab.factory.add_fault("status", status=503, path="/config", times=2)
    tag = operator.tag()

    assert 503 == device.get("/config").status_code

    assert 200 == operator.looks_again(tag)
    (fault,) = operator.view()["faults"]
    assert (1, False) == (fault["hits"], fault["spent"])


def test_devices_are_found_by_uuid_and_group(lab: Lab, operator: Viewer) -> None:
    for number in range(3):
        lab.device(f"device-{number}")
    lab.factory.set_group("device-2", "Blue")

    for find, expected in (("", 3), ("DEVICE-1", 1), ("blue", 1), ("%", 0)):
        view = operator.view(find=find)
        assert (expected, expected, 3) == (
            len(view["devices"]),
            view["devices-found"],
            view["devices-total"],
        )


# --- rotations ---


def test_a_rotation_is_told_step_by_step(lab: Lab, operator: Viewer) -> None:
    """Asked for, running, failing for a while, with the new key, over."""
    device = lab.device()
    said: list[dict[str, Any]] = []

    def tell(name: str, **inner: Any) -> tuple[str, int]:
        said.append(step(len(said), name, identifier=identifier, **inner))
        assert 200 == device.send("POST", "/events", json=said[-1:]).status_code
        return rotation()

    def rotation() -> tuple[str, int]:
        shown = operator.rotation()
        assert {"id": identifier, "state": shown["state"]} == operator.device()["rotation"]
        assert [each["eventType"]["id"] for each in said] == [s["name"] for s in shown["steps"]]
        return shown["state"], len(shown["to-come"])

    identifier = lab.factory.rotate_certs("device-1")
    assert ("asked", 7) == rotation()
    assert ("running", 6) == tell(ROTATION[0])
    assert ("retrying", 6) == tell(ROTATION[1], success=False, details="no way")
    assert ("running", 2) == tell(ROTATION[4])
    assert ("switched", 1) == tell(ROTATION[5])
    assert ("completed", 0) == tell(ROTATION[6])
    failed = operator.rotation()["steps"][1]
    assert {"name": ROTATION[1], "at": TIME, "success": False, "details": "no way"} == failed


def test_a_rotation_that_failed_says_so(lab: Lab, operator: Viewer) -> None:
    words = [step(0, ROTATION[0]), step(1, ROTATION[6], success=False, details="refused")]
    lab.device().send("POST", "/events", json=words)

    assert ("failed", []) == (operator.rotation()["state"], operator.rotation()["to-come"])


def test_an_update_of_the_target_is_no_rotation(lab: Lab, operator: Viewer) -> None:
    update = step(0, "EcuInstallationStarted", identifier="42-17")
    assert 200 == lab.device().send("POST", "/events", json=[update]).status_code

    assert ([], None) == (operator.view()["rotations"], operator.device()["rotation"])


def test_the_requests_of_the_device_are_beside_its_words(lab: Lab, operator: Viewer) -> None:
    """At both servers, in order, of this device alone, and none from before it began."""
    device = lab.device()
    identifier = lab.factory.rotate_certs("device-1")
    lab.device("device-2")
    coming = lab.credential()
    assert 200 == device.enrol(base64.b64encode(csr(subject("device-1"), coming.key))).status_code
    device.announce(coming.public_key)

    shown = operator.rotation()

    assert ("device-1", identifier) == (shown["device"], shown["id"])
    told = [(each["server"], each["method"], each["path"]) for each in shown["requests"]]
    enrolment = ("est", "POST", "/.well-known/est/simplereenroll")
    assert [enrolment, ("gateway", "PATCH", "/device")] == told[-2:]
    assert {key_digest(device.public_key)} == {each["key"] for each in shown["requests"]}
    # Events have the device's clock: one of long ago began before anything was seen.
    device.send("POST", "/events", json=[step(0, ROTATION[0], identifier="certs-2")])
    device.send("POST", "/events", json=[step(1, ROTATION[6], identifier="certs-2")])
    over = next(each for each in operator.view()["rotations"] if each["id"] == "certs-2")
    assert [] == over["requests"]


@pytest.mark.parametrize(
    "bad",
    [
        {"deviceTime": "2026-11-21T00:01:03+99:99"},
        {"eventType": {"id": ["a", 1]}},
        {"event": {"correlationId": "certs-1", "success": float("nan"), "details": {"a": [1]}}},
        {"event": {"correlationId": "certs-1", "details": "\ud800 \u2028 <b>" + "x" * 90_000}},
    ],
    ids=["offset", "type", "nan", "text"],
)
def test_whatever_a_device_writes_the_view_is_json(
    lab: Lab, operator: Viewer, bad: dict[str, Any]
) -> None:
    body = json.dumps([{**event(1), **bad}])
    assert 200 == lab.device().send("POST", "/events", data=body).status_code

    answer = operator.ask("GET", "/control/view")

    assert 200 == answer.status_code
    json.loads(answer.content, parse_constant=pytest.fail)
    assert len(answer.content) < 40_000


def test_a_device_that_writes_without_end_is_cut_short(lab: Lab, operator: Viewer) -> None:
    device = lab.device()
    for begin in range(0, 600, 200):
        many = [step(number, f"step {number}") for number in range(begin, begin + 200)]
        assert 200 == device.send("POST", "/events", json=many).status_code

    assert [f"step {n}" for n in range(500, 600)] == [
        s["name"] for s in operator.rotation()["steps"]
    ]


# --- an idle page ---


def test_nothing_new_is_a_304_that_no_log_tells(lab: Lab, operator: Viewer) -> None:
    """Whoever looks each second sees each change, and leaves no line for each look."""
    device = lab.device()
    lab.factory.clear_requests()
    changes = (
        lambda: lab.factory.set_knob("old_key", "401"),
        lambda: device.get("/config"),
        lambda: device.enrol(b"no request"),  # changes nothing that is kept
        lambda: lab.factory.rotate_certs("device-1"),
        lambda: Factory.open(lab.factory.paths.directory).set_group("device-1", "blue"),
    )
    for change in changes:
        tag = operator.tag()
        answer = operator.ask("GET", "/control/view", headers={"If-None-Match": tag})
        assert (304, b"") == (answer.status_code, answer.content)

        change()

        assert 200 == operator.looks_again(tag)
    assert [] == lab.factory.requests("api")


def test_a_tag_of_another_run_is_no_tag(unserved: Factory) -> None:
    """The counters begin anew, so they could be the same with something else to see."""
    tags = set()
    for _ in range(2):
        with unserved.serving() as urls:
            token = unserved.paths.api_token.read_text().strip()
            answer = requests.get(
                f"{urls.api}/control/view", headers={"OSF-TOKEN": token}, timeout=TIMEOUT_S
            )
            tags.add(answer.headers["ETag"])
    assert 2 == len(tags)


# --- the buttons ---


def test_every_knob_is_shown_and_can_be_turned(lab: Lab, operator: Viewer) -> None:
    for shown in operator.view()["knobs"]:
        known = KNOBS[shown["name"]]
        assert (known.default, known.meaning) == (shown["default"], shown["meaning"])
        values = ["7"] if known.values is None else list(known.values)
        assert shown["values"] == (None if known.values is None else values)

        body = {"value": values[-1]}
        answer = operator.ask("PUT", f"/control/knobs/{shown['name']}", json=body)

        assert (200, values[-1]) == (answer.status_code, lab.factory.knob(shown["name"]))
    assert len(KNOBS) == len(operator.view()["knobs"])

    assert 200 == operator.ask("DELETE", "/control/knobs").status_code
    assert {name: knob.default for name, knob in KNOBS.items()} == dict(lab.factory.knobs())


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("old_kay", b'{"value": "drop"}', 404),
        ("old_key", b'{"value": "404"}', 400),
        ("old_key", b'{"value": 403}', 400),
        ("old_key", b'{"value": ["drop"]}', 400),
        ("old_key", b'["drop"]', 400),
        ("old_key", b"drop", 400),
        ("old_key", b"", 400),
        ("old_key", b"\xff", 400),
        ("old_key", b"[" * 50_000, 400),
        ("lock_lifetime_s", b'{"value": "-1"}', 400),
        ("lock_lifetime_s", b'{"value": "' + b"9" * 5000 + b'"}', 400),
        ("est_validity_days", b'{"value": "9999999"}', 400),
    ],
)
def test_a_knob_that_cannot_be_turned_stays(
    lab: Lab, operator: Viewer, name: str, body: bytes, status: int
) -> None:
    before = dict(lab.factory.knobs())

    answer = operator.ask("PUT", f"/control/knobs/{name}", data=body)

    assert (status, {"message"}) == (answer.status_code, set(answer.json()))
    assert len(answer.content) < 1000
    assert before == lab.factory.knobs()


def test_the_largest_number_of_each_knob_leaves_the_servers_working(
    lab: Lab, operator: Viewer
) -> None:
    device = lab.device()
    for name in [name for name, knob in KNOBS.items() if knob.values is None]:
        lab.factory.set_knob(name, "999999")

    assert 200 == device.get("/device").status_code
    enrolled = device.enrol(base64.b64encode(csr(subject("device-1"), lab.credential().key)))
    assert 200 == enrolled.status_code
    assert 200 == operator.ask("GET", "/control/view").status_code


def test_the_button_asks_for_a_rotation_as_fioctl_does(lab: Lab, operator: Viewer) -> None:
    device = lab.device()

    answer = operator.ask("POST", "/control/devices/device-1/rotate")

    assert 201 == answer.status_code
    by_button = device.get("/config").json()["fio-rotate-certs"]
    lab.factory.rotate_certs("device-1", rotation_id=answer.json()["id"])
    assert device.get("/config").json()["fio-rotate-certs"] == by_button


def test_a_rotation_that_cannot_be_asked_for(lab: Lab, operator: Viewer) -> None:
    """Of a device that is not there, or that is between two keys."""
    missing = operator.ask("POST", "/control/devices/device-1/rotate")
    lab.device().announce(lab.credential().public_key)
    locked = operator.ask("POST", "/control/devices/device-1/rotate")

    assert (404, 409) == (missing.status_code, locked.status_code)
    assert "is locked" in locked.json()["message"]
    assert {} == lab.factory.device("device-1").config


# --- who may see it ---


def test_the_page_is_for_everybody_and_the_view_is_not(lab: Lab) -> None:
    lab.device()
    token = lab.factory.paths.api_token.read_text().strip()
    for path, (_, content_type) in FILES.items():
        answer = requests.get(lab.urls.api + path, timeout=TIMEOUT_S)
        assert (200, content_type) == (answer.status_code, answer.headers["Content-Type"])
        assert "device-1" not in answer.text
        assert token not in answer.text
    for method, path in (
        ("GET", "/control/view"),
        ("PUT", "/control/knobs/old_key"),
        ("DELETE", "/control/knobs"),
        ("POST", "/control/devices/device-1/rotate"),
        ("GET", "/page.js/"),
    ):
        for sent in ("", "wrong"):
            answer = requests.request(
                method,
                lab.urls.api + path,
                headers={"OSF-TOKEN": sent},
                json={"value": "drop"},
                timeout=TIMEOUT_S,
            )
            assert 401 == answer.status_code, (method, path)
    assert "403" == lab.factory.knob("old_key")


def test_no_file_but_the_pages_own_can_be_had(lab: Lab, operator: Viewer) -> None:
    for path in ("/index.html", "/static.py", "/../static.py", "/%2e%2e/static.py", "/page/"):
        assert 404 == operator.ask("GET", path).status_code


def test_the_page_runs_its_own_scripts_alone_and_in_no_frame(lab: Lab, operator: Viewer) -> None:
    for path in ("/", "/page.js", "/control/view", "/control/nothing"):
        headers = operator.ask("GET", path).headers
        policy = {
            part.split()[0]: part.split()[1:]
            for part in headers["Content-Security-Policy"].split(";")
        }
        assert ["'none'"] == policy["default-src"] == policy["frame-ancestors"]
        assert ["'self'"] == policy["script-src"] == policy["style-src"] == policy["connect-src"]
        assert "nosniff" == headers["X-Content-Type-Options"]
        assert "DENY" == headers["X-Frame-Options"]
        assert "no-referrer" == headers["Referrer-Policy"]
    assert "no-store" == operator.ask("GET", "/control/view").headers["Cache-Control"]
    page = requests.get(lab.urls.api, timeout=TIMEOUT_S).text
    assert "<script>" not in page
    assert "style=" not in page
    assert "onclick" not in page


def test_the_files_are_sent_once(lab: Lab) -> None:
    """A browser that has them asks with their tags."""
    tag = requests.get(f"{lab.urls.api}/page.js", timeout=TIMEOUT_S).headers["ETag"]

    again = requests.get(
        f"{lab.urls.api}/page.js", headers={"If-None-Match": tag}, timeout=TIMEOUT_S
    )

    assert (304, b"") == (again.status_code, again.content)


@pytest.mark.parametrize(
    ("host", "is_served"),
    [
        ("127.0.0.1:{}", True),
        ("localhost:{}", True),
        ("LOCALHOST", True),
        ("[::1]:{}", True),
        ("192.168.1.5:{}", True),
        ("lab.example:{}", False),
        ("localhost.example", False),
        ("127.0.0.1.example:{}", False),
        ("lab@127.0.0.1.example", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_a_name_that_a_stranger_may_have_pointed_here_gets_nothing(
    lab: Lab, host: str, is_served: bool
) -> None:
    """DNS rebinding: a site's own name becomes the address of this machine."""
    address = urlsplit(lab.urls.api)
    token = lab.factory.paths.api_token.read_text().strip()
    for path in ("/", "/page.js", "/control/view"):
        connection = http.client.HTTPConnection(str(address.hostname), address.port or 0)
        headers = {"Host": host.format(address.port), "OSF-TOKEN": token}
        connection.request("GET", path, headers=headers)
        assert (200 if is_served else 421) == connection.getresponse().status, path
        connection.close()


def test_a_group_that_is_asked_hides_no_rotation_under_way(lab: Lab, operator: Viewer) -> None:
    """And the one that somebody has chosen is there, however many came after it."""
    for number in range(ROTATIONS_SHOWN + 1):
        lab.device(f"device-{number}").send(
            "POST", "/events", json=[step(1, "CertRotationStarted")]
        )
        lab.clock.tick()
        lab.factory.set_group(f"device-{number}", "till")
    running = lab.device("running")
    running.send("POST", "/events", json=[step(1, "CertRotationStarted", identifier="certs-9")])

    lab.factory.rotate_certs("", group="till", rotation_id="certs-2")

    shown = operator.view()["rotations"]
    assert ROTATIONS_SHOWN == len(shown)
    assert {"asked", "running"} == {each["state"] for each in shown}
    assert ("running", "certs-9") in {(each["device"], each["id"]) for each in shown}
    assert ("device-0", "certs-1") not in {(each["device"], each["id"]) for each in shown}
    chosen = operator.view(rotation="device-0/certs-1")["rotations"][-1]
    assert ("device-0", "certs-1", "running") == (chosen["device"], chosen["id"], chosen["state"])
    asked = operator.view(rotation="device-0/certs-2")["rotations"]
    assert ("device-0", "certs-2") in {(each["device"], each["id"]) for each in asked}
    for none in ("device-0/certs-3", "nobody/certs-1", "device-0", "/"):
        assert ROTATIONS_SHOWN == len(operator.view(rotation=none)["rotations"])
