"""Event queues: what is told, to whom, and that nothing is lost on the way."""

from __future__ import annotations

import base64
import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from fioagent.factory import Factory, FactoryError
from fioagent.factory.cli.main import main
from fioagent.factory.cli.queues import AT_ONCE
from fioagent.factory.queues import notices
from fioagent.factory.queues.push import pause
from tests.factory.conftest import Lab
from tests.factory.operator import Operator
from tests.factory.peers import TIMEOUT_S
from tests.factory.receiver import Pushed, Receiver
from tests.factory.serving import served, until_ready
from tests.factory.test_events import event
from tests.processes import has_ended
from tests.world import World

TOPICS = "/ota/factories/lab-factory/event-queues/"


def told(factory: Factory, *, of: str = "device-1") -> list[str]:
    return [event["type"] for event in factory.outbox() if event["Uuid"] == of]


def names(number: int, name: str, correlation_id: str = "up-1", **inner: Any) -> dict[str, Any]:
    return {**event(number, correlation_id, **inner), "eventType": {"id": name, "version": 0}}


# --- what is told, and when ---


def test_a_device_is_first_seen_once_and_last_seen_when_it_tells_something_new(lab: Lab) -> None:
    device = lab.client(lab.credential())

    device.get("/device", x_ats_target="lmp-1", x_ats_tags="main")
    device.get("/device", x_ats_target="lmp-1")
    device.get("/device", x_ats_target="lmp-2")

    first, second, third = lab.factory.outbox()
    now = int(lab.clock())
    assert first == {
        "type": "DEVICE_FIRST_SEEN",
        "Uuid": "device-1",
        "DeviceGroupId": None,
        "Time": now,
    }
    assert second["Changes"] == {"tag": "main", "target_name": "lmp-1"}
    assert (third["type"], third["Changes"]) == ("DEVICE_LAST_SEEN", {"target_name": "lmp-2"})


def test_a_registered_device_is_first_seen_at_its_first_request(lab: Lab, tmp_path: Path) -> None:
    """And told of with its group."""
    made = lab.factory.add_device(tmp_path / "device", "device-1")
    lab.factory.set_group("device-1", "rack")
    assert told(lab.factory) == []

    pair = (str(made.sota / "client.pem"), str(made.sota / "pkey.pem"))
    url = f"{lab.urls.gateway}/device"
    root = str(lab.factory.paths.root)
    requests.get(url, cert=pair, verify=root, timeout=TIMEOUT_S)

    (first,) = lab.factory.outbox()
    assert (first["type"], first["DeviceGroupId"]) == ("DEVICE_FIRST_SEEN", 1)


def test_a_configuration_is_applied_when_the_device_comes_back_with_it(lab: Lab) -> None:
    """Not when it was fetched: the answer may be lost, the device may fail to store it."""
    device = lab.device()
    lab.factory.set_config("device-1", {"a": b"1"}, plain=True)

    date = device.get("/config").headers["Date"]
    device.get("/config")
    device.get("/config", If_Modified_Since="Thu, 01 Jan 1970 00:00:00 GMT")
    assert told(lab.factory) == ["DEVICE_FIRST_SEEN"]

    for _ in range(2):
        assert device.get("/config", If_Modified_Since=date).status_code == 304
    assert told(lab.factory) == ["DEVICE_FIRST_SEEN", "DEVICE_CONFIG_APPLIED"]

    lab.clock.tick()
    lab.factory.set_config("device-1", {"a": b"2"}, plain=True)
    device.get("/config", If_Modified_Since=date)
    assert told(lab.factory).count("DEVICE_CONFIG_APPLIED") == 1


def test_updates_of_a_device_begin_and_end_once(lab: Lab) -> None:
    """Whatever is repeated or in whatever pieces it comes; rotations are no OTA updates."""
    device = lab.device()
    begins = [names(1, "EcuDownloadStarted"), names(2, "EcuInstallationStarted")]
    ends = names(3, "EcuInstallationCompleted", success=False)

    for batch in (begins, [begins[0], ends], [ends], [event(9)]):
        assert device.send("POST", "/events", json=batch).status_code == 200
    odd = {**event(10), "eventType": {"id": ["a", "list"]}}
    assert device.send("POST", "/events", json=[odd]).status_code == 200

    started, completed = lab.factory.outbox()[1:]
    same = {"Target": "lmp-42", "Id": "up-1"}
    common = {"Uuid": "device-1", "DeviceGroupId": None, "Time": int(lab.clock())}
    assert started == {"type": "DEVICE_OTA_STARTED", **common, **same}
    assert completed == {"type": "DEVICE_OTA_COMPLETED", **common, **same, "Success": False}


def test_a_device_that_was_deleted_and_is_back_is_told_of_anew(
    lab: Lab, operator: Operator
) -> None:
    for _ in range(2):
        lab.device().send("POST", "/events", json=[names(1, "EcuInstallationCompleted")])
        operator.send("DELETE", "device-1/")
        operator.factory("DELETE", "denied-devices/device-1/")

    assert told(lab.factory) == ["DEVICE_FIRST_SEEN", "DEVICE_OTA_COMPLETED"] * 2


def test_a_rotation_of_the_agent_changes_the_key_once(world: World) -> None:
    """Old and new key are those of the certificates."""
    old = world.factory.device(world.uuid).public_key_pem
    with Receiver() as receiver:
        world.factory.add_queue("rotation", receiver.url)
        try:
            assert world.rotate().code == 0
            *_, pushed = receiver.until("DEVICE_PUBKEY_CHANGE")
        finally:
            world.factory.remove_queue("rotation")

    mine = world.factory.outbox("DEVICE_PUBKEY_CHANGE")
    (changed,) = [found for found in mine if found["Uuid"] == world.uuid]
    new = world.factory.device(world.uuid).public_key_pem
    assert (changed["OldPubKey"], changed["NewPubKey"]) == (old, new)
    assert old != new
    assert {"type": pushed.type, **pushed.payload} == changed


# --- push ---


def checked(pushed: Pushed, certificates: dict[str, str]) -> dict[str, Any]:
    """The claims of a token whose signature is good, by what the factory publishes."""
    head, claims, signature = pushed.token.split(".")

    def decoded(part: str) -> bytes:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))

    header = json.loads(decoded(head))
    assert header["alg"] == "RS256"
    certificate = x509.load_pem_x509_certificate(certificates[header["kid"]].encode())
    key = certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    key.verify(decoded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())
    loaded: dict[str, Any] = json.loads(decoded(claims))
    return loaded


def test_a_push_has_the_form_of_pub_sub_and_a_token_that_can_be_checked(lab: Lab) -> None:
    """The certificates are open to all, as Google's are."""
    with Receiver() as receiver:
        lab.factory.add_queue("hooks", receiver.url)
        lab.device()
        pushed = receiver.next()

    assert pushed.body["subscription"].endswith("/subscriptions/f-lab-factory-hooks")
    message = pushed.body["message"]
    assert message["publishTime"] == message["publish_time"]
    assert message["messageId"] == message["message_id"]
    assert pushed.type == "DEVICE_FIRST_SEEN"
    assert pushed.payload["Uuid"] == "device-1"
    certificates = requests.get(f"{lab.urls.api}/oauth2/v1/certs", timeout=TIMEOUT_S).json()
    claims = checked(pushed, certificates)
    assert claims["aud"] == receiver.url
    assert claims["exp"] - claims["iat"] == 3600
    assert lab.factory.paths.push_key.stat().st_mode & 0o777 == 0o400


def test_a_refused_message_is_sent_until_it_is_taken_and_order_is_kept_per_device(
    lab: Lab,
) -> None:
    """Another device's messages go past it, its own wait behind it."""
    refusals = {"device-1": 3}

    def answer(pushed: Pushed) -> int:
        device = pushed.payload["Uuid"]
        refusals[device] = refusals.get(device, 0) - 1
        return 503 if refusals[device] >= 0 else 200

    with Receiver(answer) as receiver:
        lab.factory.add_queue("hooks", receiver.url)
        one = lab.device("device-1")
        for number in range(4):
            one.get("/device", x_ats_target=f"lmp-{number}")
        lab.device("device-2")
        came = [receiver.next() for _ in range(9)]

    def of(device: str) -> list[int]:
        return [int(p.id) for p in came if p.payload["Uuid"] == device]

    assert of("device-1") == [1, 1, 1, 1, 2, 3, 4, 5]
    assert of("device-2") == [6]


def test_pauses_between_attempts_grow_to_a_minute() -> None:
    assert [pause(tries) for tries in (1, 2, 3, 4)] == [0.1, 0.2, 0.4, 0.8]
    assert pause(11) == pause(10_000) == 60


def test_a_slow_receiver_holds_up_neither_other_queues_nor_the_gateway(lab: Lab) -> None:
    """It is still busy with its first message when all others are through."""
    released = threading.Event()

    def slowly(_: Pushed) -> int:
        released.wait(60)
        return 200

    with Receiver(slowly) as slow, Receiver() as quick:
        lab.factory.add_queue("slow", slow.url)
        lab.factory.add_queue("quick", quick.url)
        try:
            for number in range(5):
                lab.device(f"device-{number}")
            came = [quick.next().payload["Uuid"] for _ in range(5)]
            waiting = {found.label: found.waiting for found in lab.factory.queues()}
        finally:
            released.set()
        assert slow.next().payload["Uuid"] == "device-0"

    assert came == [f"device-{number}" for number in range(5)]
    assert waiting["slow"] == 5


def test_a_receiver_that_dies_gets_all_when_it_is_back(lab: Lab) -> None:
    """A line that breaks and a port where nobody listens are no answers."""
    with Receiver(lambda _: 0) as dying:
        lab.factory.add_queue("hooks", dying.url)
        device = lab.device()
        dying.next()
    device.get("/device", x_ats_target="lmp-1")

    with Receiver(port=dying.port) as back:
        came = [back.next().type for _ in range(2)]

    assert came == ["DEVICE_FIRST_SEEN", "DEVICE_LAST_SEEN"]


@pytest.mark.parametrize("status", [302, 418, 500])
def test_what_goes_wrong_is_shown(
    lab: Lab, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    """In the list and in the log, which has no token; a redirect is not followed."""
    with Receiver(lambda _: status) as receiver:
        lab.factory.add_queue("hooks", receiver.url)
        lab.device()
        refused = receiver.next()
        receiver.next()

        assert main(["event-queues", "list", str(lab.factory.paths.directory)]) == 0

    assert f"hooks  push  {receiver.url}  1        HTTP {status}" in capsys.readouterr().out
    log = (lab.factory.paths.log / "push.log").read_text()
    assert f"hooks DEVICE_FIRST_SEEN device-1 1 HTTP {status}" in log
    assert refused.token not in log


def test_what_is_secret_in_a_url_is_in_no_log(lab: Lab) -> None:
    """Receivers know their caller by a token in the query. The reason is there, whole."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    lab.factory.add_queue("hooks", f"http://127.0.0.1:{port}/in?token=S3CRET")
    lab.device()

    while not (trouble := lab.factory.queues()[0].trouble):
        pass

    log = (lab.factory.paths.log / "push.log").read_text()
    assert "Connection refused" in trouble
    assert "Connection refused" in log
    assert "S3CRET" not in log + trouble


def test_a_receiver_that_says_nothing_is_left_and_asked_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fioagent.factory.queues.push.TIMEOUT_S", 0.2)
    answered = threading.Event()

    def answer(_: Pushed) -> int:
        if not answered.is_set():
            answered.wait(TIMEOUT_S)
        return 204

    with Receiver(answer) as receiver:
        lab.factory.add_queue("hooks", receiver.url)
        lab.device()
        while "timed out" not in lab.factory.queues()[0].trouble:
            pass
        answered.set()
        while lab.factory.queues()[0].waiting:
            pass
        assert {receiver.next().id for _ in range(2)} == {"1"}


def test_a_factory_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    """What a device was answered for is told of by the next process, if nobody took it yet."""
    factory = Factory.create(tmp_path / "factory")
    with Receiver(lambda _: 503) as receiver:
        factory.add_queue("hooks", receiver.url)
        first = served(factory.paths.directory)
        try:
            until_ready(first)
            world = World(factory, factory.urls(), tmp_path / "device")
            world.give_config()
            assert world.rotate().code == 0
            receiver.next()
        finally:
            first.kill()
            first.wait()
        assert has_ended(first.pid)
        assert first.stdout is not None
        first.stdout.close()

        receiver.answer = lambda _: 200
        while not receiver.pushed.empty():
            receiver.next()
        with served(factory.paths.directory) as second:
            until_ready(second)
            came: dict[str, Pushed] = {}  # once each: the killed one may have been at work still
            while len(came) < len(factory.outbox()):
                pushed = receiver.next()
                came.setdefault(pushed.id, pushed)
            second.kill()

    told = [{"type": pushed.type, **pushed.payload} for pushed in came.values()]
    assert told == factory.outbox()
    assert [each["type"] for each in told].count("DEVICE_PUBKEY_CHANGE") == 1


# --- pull ---


def test_a_pull_queue_is_read_as_pub_sub_has_it(lab: Lab, operator: Operator) -> None:
    """Pulled, acknowledged, gone; what is not acknowledged in time comes again."""
    answer = operator.ask("POST", TOPICS, json={"label": "mine", "type": "pull"})
    assert answer.status_code == 201
    creds = answer.json()
    lab.device("device-1")
    lab.device("device-2")

    def ask(verb: str, **body: Any) -> dict[str, Any]:
        url = f"{creds['endpoint']}{creds['subscription']}:{verb}"
        headers = {"Authorization": f"Bearer {creds['token']}"}
        answer = requests.post(url, json=body, headers=headers, timeout=TIMEOUT_S)
        assert answer.status_code == 200
        loaded: dict[str, Any] = answer.json()
        return loaded

    first, second = ask("pull", maxMessages=5)["receivedMessages"]
    assert first["message"]["attributes"] == {"event-type": "DEVICE_FIRST_SEEN"}
    payload = json.loads(base64.b64decode(second["message"]["data"]))
    assert payload["Uuid"] == "device-2"
    assert ask("pull", maxMessages=5) == {}

    ask("acknowledge", ackIds=[first["ackId"], "unknown"])
    ask("modifyAckDeadline", ackIds=[second["ackId"]], ackDeadlineSeconds=20)
    lab.clock.tick(11)
    assert ask("pull", maxMessages=5) == {}
    lab.clock.tick(11)
    (again,) = ask("pull", maxMessages=5)["receivedMessages"]
    assert again["message"] == second["message"]
    assert again["deliveryAttempt"] == 2

    ask("acknowledge", ackIds=[second["ackId"]])  # of the delivery that was given up
    ask("modifyAckDeadline", ackIds=[again["ackId"]], ackDeadlineSeconds=0)
    (last,) = ask("pull", maxMessages=5)["receivedMessages"]
    ask("acknowledge", ackIds=[last["ackId"]])
    assert lab.factory.queues()[0].waiting == 0


@pytest.mark.parametrize("token", ["", "wrong", "the operator's", "of another queue"])
def test_a_queue_opens_to_its_own_token_alone(lab: Lab, token: str) -> None:
    """A queue that is not there looks the same."""
    lab.factory.add_queue("mine")
    other = lab.factory.add_queue("other")
    known = {"the operator's": lab.factory.paths.api_token.read_text().strip()}
    known["of another queue"] = other
    headers = {"Authorization": f"Bearer {known.get(token, token)}"}
    base = f"{lab.urls.api}/v1/projects/fioagent-factory/subscriptions/f-lab-factory-"

    for label in ("mine", "nothing"):
        answer = requests.post(
            f"{base}{label}:pull", json={"maxMessages": 1}, headers=headers, timeout=TIMEOUT_S
        )
        assert answer.status_code == 401
        assert answer.json()["error"]["status"] == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("pull", b"{"),
        ("pull", b"{}"),
        ("pull", b'{"maxMessages": 0}'),
        ("pull", b'{"maxMessages": true}'),
        ("acknowledge", b'{"ackIds": "a"}'),
        ("acknowledge", b"[]"),
        ("modifyAckDeadline", b'{"ackIds": [], "ackDeadlineSeconds": -1}'),
    ],
)
def test_a_request_that_cannot_be_read_is_refused(lab: Lab, verb: str, body: bytes) -> None:
    token = lab.factory.add_queue("mine")
    url = f"{lab.urls.api}/v1/projects/fioagent-factory/subscriptions/f-lab-factory-mine:{verb}"

    headers = {"Authorization": f"Bearer {token}"}
    answer = requests.post(url, data=body, headers=headers, timeout=TIMEOUT_S)

    assert answer.status_code == 400
    assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"


# --- what operators do with them ---


def test_queues_are_made_listed_and_removed_as_fioctl_does_it(lab: Lab, operator: Operator) -> None:
    """``[{"label", "type", "push-url"}]``; members that fioctl does not know are ours."""
    push = {"label": "hooks", "type": "push", "push-url": "http://127.0.0.1:9/"}

    assert operator.ask("POST", TOPICS, json=push).status_code == 201
    assert operator.ask("POST", TOPICS, json=push).status_code == 409
    (listed,) = operator.ask("GET", TOPICS).json()
    assert listed == {**push, "waiting": 0, "trouble": ""}
    assert operator.ask("DELETE", f"{TOPICS}hooks/").status_code == 200
    assert operator.ask("DELETE", f"{TOPICS}hooks/").status_code == 404
    assert operator.ask("GET", TOPICS).json() == []
    assert operator.ask("GET", TOPICS.replace("lab-factory", "other")).status_code == 404
    assert requests.get(lab.urls.api + TOPICS, timeout=TIMEOUT_S).status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{}", b'{"label": 1, "type": "pull"}', b'{"label": "a", "type": "both"}'),
        *(b'{"label": "a b", "type": "pull"}', b'{"label": "", "type": "pull"}'),
        *(b'{"label": "a", "type": "push"}', b'{"label": "a", "type": "push", "push-url": "x"}'),
        b'{"label": "a", "type": "push", "push-url": "file:///etc/passwd"}',
        b'{"label": "a", "type": "push", "push-url": "http://h:70000/"}',
        b'{"label": "a", "type": "push", "push-url": "http://u:p@h/"}',
        b'{"label": "a", "type": "pull", "push-url": "http://h/"}',
    ],
)
def test_a_queue_that_cannot_be_is_refused(lab: Lab, operator: Operator, body: bytes) -> None:
    answer = operator.ask("POST", TOPICS, data=body)

    assert answer.status_code == 400
    assert answer.json()["message"]
    assert lab.factory.queues() == []


def test_the_command_line_makes_pulls_and_removes(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The credentials are in a file that nobody else reads, and work."""
    directory, creds = str(lab.factory.paths.directory), tmp_path / "creds.json"
    assert main(["event-queues", "mk-pull", directory, "mine", str(creds)]) == 0
    lab.device()

    assert creds.stat().st_mode & 0o777 == 0o600
    document = json.loads(creds.read_text())
    assert document["token"] not in capsys.readouterr().out
    answer = requests.post(
        f"{document['endpoint']}{document['subscription']}:pull",
        json={"maxMessages": 1},
        headers={"Authorization": f"Bearer {document['token']}"},
        timeout=TIMEOUT_S,
    )
    assert len(answer.json()["receivedMessages"]) == 1
    lab.factory.add_queue("other")
    lab.device("device-2")
    assert main(["event-queues", "pull", directory, "other", "--keep"]) == 0
    assert capsys.readouterr().out.startswith('DEVICE_FIRST_SEEN {"Uuid": "device-2"')
    assert [found.waiting for found in lab.factory.queues()] == [2, 1]
    lab.factory.remove_queue("other")
    assert main(["event-queues", "rm", directory, "mine"]) == 0
    assert main(["event-queues", "mk-push", directory, "hooks", "http://127.0.0.1:9/"]) == 0
    assert [found.type for found in lab.factory.queues()] == ["push"]


def test_pulling_goes_on_until_nothing_is_left(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in ("mine", "other"):
        lab.factory.add_queue(label)
    with lab.factory.store.write() as db:
        for number in range(AT_ONCE + 1):
            notices.publish(db, f"device-{number}", "DEVICE_FIRST_SEEN", lab.clock())
    command = ["event-queues", "pull", str(lab.factory.paths.directory)]

    for label, option in (("mine", []), ("other", ["--keep"])):
        assert main([*command, label, *option]) == 0
        assert len(capsys.readouterr().out.splitlines()) == AT_ONCE + 1

    assert [queue.waiting for queue in lab.factory.queues()] == [0, AT_ONCE + 1]


def test_what_the_command_line_cannot_do_is_one_line(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And leaves nothing."""
    directory = str(lab.factory.paths.directory)
    taken = tmp_path / "taken"
    taken.write_text("mine")
    fresh = tmp_path / "fresh"
    for arguments, reason in (
        (["mk-pull", directory, "a", str(taken)], f"cannot write {taken}: File exists"),
        (["mk-pull", directory, "a", "/dev/full/x"], "cannot write /dev/full/x: Not a directory"),
        (["mk-pull", directory, "a b", str(fresh)], "a label begins with a letter"),
        (["mk-push", directory, "a", "ftp://x/"], "is no http:// or https:// URL"),
        (["rm", directory, "a"], "cannot remove the event queue a: there is none"),
        (["pull", directory, "a"], "there is no such pull queue"),
    ):
        assert main(["event-queues", *arguments]) == 1
        assert reason in capsys.readouterr().err
    assert lab.factory.queues() == []
    assert taken.read_text() == "mine"
    assert not fresh.exists()


def test_a_queue_gets_what_happens_after_it_was_made(lab: Lab) -> None:
    lab.device("device-1")
    lab.factory.add_queue("mine")
    lab.device("device-2")

    (message,) = lab.factory.pull("mine", 10)

    assert message.uuid == "device-2"
    assert lab.factory.queues()[0].waiting == 0
    with pytest.raises(FactoryError, match="no such pull queue"):
        lab.factory.pull("hooks", 10)
