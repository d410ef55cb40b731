"""Faults: what a real client sees of each, which requests meet one, and how they are kept."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.exceptions import ChunkedEncodingError, ReadTimeout

from fioagent.factory import Factory, FactoryError
from fioagent.factory.cli.main import main
from fioagent.factory.servers.faults import ACTIONS, STALE_DATE
from fioagent.factory.servers.server import THREADS
from tests.factory.conftest import Lab
from tests.factory.peers import TIMEOUT_S, Client, csr, subject
from tests.factory.serving import served, until_ready

NO_ANSWER = requests.ConnectionError


@pytest.fixture
def device(lab: Lab) -> Client:
    """With a configuration of one plain file."""
    device = lab.device()
    lab.factory.set_config("device-1", {"motd": b"x" * 400}, plain=True)
    return device


def raw(lab: Lab, client: Client) -> ssl.SSLSocket:
    """A connection to the gateway as the device, to be used by hand."""
    assert client.credential is not None
    context = ssl.create_default_context(cafile=lab.factory.paths.root)
    context.load_cert_chain(client.credential.certificate_file, client.credential.key_file)
    port = int(lab.urls.gateway.rpartition(":")[2])
    return context.wrap_socket(
        socket.create_connection(("localhost", port), TIMEOUT_S), server_hostname="localhost"
    )


# --- what each action does ---


def test_a_slow_answer_is_the_true_one(lab: Lab, device: Client) -> None:
    """It comes no earlier than the delay, and the server has waited, not worked."""
    lab.factory.add_fault("slow", path="/config", delay=0.6)

    answer = device.get("/config")

    assert answer.elapsed.total_seconds() >= 0.6
    assert set(answer.json()) == {"motd"}


@pytest.mark.parametrize("done", [False, True])
def test_a_slow_request_is_carried_out_after_the_delay_or_before(
    lab: Lab, device: Client, done: bool
) -> None:
    """A client that gives up sees no difference; the factory does."""
    lab.factory.add_fault("slow", method="PATCH", path="/device", delay=3600, done=done)
    key = lab.credential().public_key

    with pytest.raises(ReadTimeout):
        device.session.patch(
            f"{device.urls.gateway}/device", json={"next_pubkey": key}, timeout=(TIMEOUT_S, 2)
        )

    until = time.monotonic() + 60  # on a busy machine it is on its way still
    while done and not lab.factory.device("device-1").next_public_key_pem:
        assert time.monotonic() < until
    assert lab.factory.device("device-1").next_public_key_pem == (key if done else None)


@pytest.mark.parametrize("done", [False, True])
def test_another_status_with_what_belongs_to_it(lab: Lab, device: Client, done: bool) -> None:
    """As of a proxy that gave up; done: what it gave up on happened all the same."""
    options = {"status": 503, "body": "{}", "content_type": "application/json", "retry_after": 7}
    lab.factory.add_fault("status", method="PATCH", path="/device", done=done, **options)
    key = lab.credential().public_key

    answer = device.announce(key)

    assert (answer.status_code, answer.content) == (503, b"{}")
    assert answer.headers["Retry-After"] == "7"
    assert answer.headers["Content-Type"] == "application/json"
    assert lab.factory.device("device-1").next_public_key_pem == (key if done else None)
    assert lab.factory.requests("gateway")[-1].status == 503


@pytest.mark.parametrize("action", ["drop", "reset"])
@pytest.mark.parametrize("done", [False, True])
def test_an_answer_that_never_comes(lab: Lab, device: Client, action: str, done: bool) -> None:
    lab.factory.add_fault(action, method="PATCH", path="/device", done=done)
    key = lab.credential().public_key

    with pytest.raises(NO_ANSWER):
        device.announce(key)

    assert lab.factory.device("device-1").next_public_key_pem == (key if done else None)
    assert lab.factory.requests("gateway")[-1].status == 0
    assert device.get("/device").status_code == 200


@pytest.mark.parametrize(("action", "ends"), [("drop", "end"), ("reset", "reset")])
def test_a_drop_ends_the_stream_and_a_reset_breaks_it(
    lab: Lab, device: Client, action: str, ends: str
) -> None:
    """Seen below TLS: FIN is an end of file, RST an error."""
    lab.factory.add_fault(action, path="/config")

    with raw(lab, device) as line:
        line.sendall(b"GET /config HTTP/1.1\r\nHost: localhost\r\n\r\n")
        try:
            while socket.socket.recv(line, 4096):
                pass
            seen = "end"
        except ConnectionResetError:
            seen = "reset"

    assert seen == ends


def test_a_body_that_is_cut_is_shorter_than_it_says(lab: Lab, device: Client) -> None:
    whole = device.get("/config").content
    lab.factory.add_fault("cut", path="/config")

    with pytest.raises(ChunkedEncodingError) as broken:
        device.get("/config")

    incomplete = broken.value.args[0].args[1]
    assert isinstance(incomplete, IncompleteRead)
    assert incomplete.expected == len(whole) - len(whole) // 2


def test_a_truncated_body_says_that_it_is_whole(lab: Lab, device: Client) -> None:
    whole = device.get("/config")
    lab.factory.add_fault("truncate", path="/config")

    half = device.get("/config")

    assert (half.status_code, half.headers["Date"]) == (200, whole.headers["Date"])
    assert whole.content[: len(whole.content) // 2] == half.content


def test_a_trickled_body_comes_byte_by_byte(lab: Lab, device: Client) -> None:
    """Whole in the end, and never two bytes in one record."""
    lab.factory.add_fault("trickle", path="/device", delay=0.001)
    body = device.get("/device").content
    assert json.loads(body)["uuid"] == "device-1"

    with raw(lab, device) as line:
        line.sendall(b"GET /device HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = line.recv(4096)
        assert head.endswith(b"\r\n\r\n")
        assert [line.recv(4096) for _ in body] == [bytes([byte]) for byte in body]


def test_garbage_under_the_right_status(lab: Lab, device: Client) -> None:
    lab.factory.add_fault("garbage", path="/config")

    answer = device.get("/config")

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    with pytest.raises(ValueError, match="codec"):
        answer.content.decode()


def test_an_answer_that_may_have_no_body_gets_none(lab: Lab) -> None:
    """Else the next answer on the connection could not be read."""
    device = lab.device()
    lab.factory.add_fault("garbage", path="/config", times=1)

    with raw(lab, device) as line:
        for path, status in (("/config", b"204"), ("/device", b"200")):
            line.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert line.recv(4096).startswith(b"HTTP/1.1 " + status)
    assert lab.factory.faults()[0].hits == 1


@pytest.mark.parametrize(("given", "seen"), [("", "text/html; charset=UTF-8"), ("a/b", "a/b")])
def test_a_right_body_under_a_wrong_type(lab: Lab, device: Client, given: str, seen: str) -> None:
    lab.factory.add_fault("content-type", path="/config", content_type=given)

    answer = device.get("/config")

    assert (answer.headers["Content-Type"], set(answer.json())) == (seen, {"motd"})


def test_a_date_of_long_ago(lab: Lab, device: Client) -> None:
    lab.factory.add_fault("date", path="/config")

    assert device.get("/config").headers["Date"] == STALE_DATE


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("tls-alert", "alert handshake failure"),
        ("tls-close", "EOF|reset|zero return"),
        ("tls-stall", "timed out"),
    ],
)
def test_a_handshake_that_fails(lab: Lab, action: str, said: str) -> None:
    """A connection that is open goes on; a new one meets the fault, of this server alone."""
    open_before = lab.device()
    lab.factory.add_fault(action, server="gateway", delay=3600 if action == "tls-stall" else 0)

    new = lab.client(lab.credential("device-2"))
    with pytest.raises(requests.RequestException, match=f"(?i){said}"):
        new.session.get(f"{lab.urls.gateway}/config", timeout=2)

    assert open_before.get("/device").status_code == 200
    assert new.session.get(f"{lab.urls.est}/cacerts", timeout=TIMEOUT_S).status_code == 200
    lab.factory.clear_faults()
    assert new.get("/device").status_code == 200


def test_every_action_is_tried_here() -> None:
    """And told in the page for integrators."""
    here = Path(__file__).read_text()
    page = (Path(__file__).parents[2] / "docs" / "factory.md").read_text()
    assert [name for name in ACTIONS if f'"{name}"' not in here] == []
    assert [name for name in ACTIONS if f"| `{name}` |" not in page] == []


# --- which requests meet one ---


def test_a_fault_is_of_a_server_a_method_a_path_and_a_device(lab: Lab) -> None:
    one, two = lab.device("device-1"), lab.device("device-2")
    lab.factory.add_fault(
        "status", server="gateway", method="GET", path="/conf*", device="device-2", status=500
    )

    assert two.get("/config").status_code == 500
    assert two.get("/config-device").status_code == 500
    assert one.get("/config").status_code == 204
    assert two.get("/device").status_code == 200
    assert two.patch_config(two.public_key).status_code == 201
    assert two.enrol(b"").status_code == 400


def test_a_fault_of_the_est_server_knows_the_device(lab: Lab, device: Client) -> None:
    lab.factory.add_fault("status", server="est", device="device-1", status=502)
    lab.factory.add_fault("status", server="gateway", path="/nothing", status=500)
    assert device.credential is not None
    request = csr(subject("device-1"), device.credential.key)

    assert device.enrol(request).status_code == 502
    other = lab.client(lab.credential("device-2"))
    assert other.enrol(request).status_code == 400
    assert device.get("/device").status_code == 200


def test_the_next_three_or_the_second_only(lab: Lab, device: Client) -> None:
    """Requests that do not match are not counted."""
    lab.factory.add_fault("status", path="/config", status=500, times=3)
    lab.factory.add_fault("status", path="/device", status=500, after=1, times=1)

    assert [device.get("/config").status_code for _ in range(5)] == [500, 500, 500, 200, 200]
    assert [device.get("/device").status_code for _ in range(4)] == [200, 500, 200, 200]
    assert [(kept.hits, kept.is_spent) for kept in lab.factory.faults()] == [(3, True), (1, True)]


def test_of_several_the_first_that_acts_is_carried_out(lab: Lab, device: Client) -> None:
    """One that lets a request pass leaves it to the next."""
    lab.factory.add_fault("status", path="/device", status=500, after=1, times=1)
    lab.factory.add_fault("status", path="/device", status=501)

    assert [device.get("/device").status_code for _ in range(3)] == [501, 500, 501]
    assert [kept.hits for kept in lab.factory.faults()] == [1, 2]


def test_many_requests_at_once_meet_a_count_exactly(lab: Lab) -> None:
    clients = [lab.device(f"device-{number}") for number in range(12)]
    lab.factory.add_fault("status", path="/device", status=500, times=5)

    with ThreadPoolExecutor(len(clients)) as pool:
        statuses = list(pool.map(lambda client: client.get("/device").status_code, clients))

    assert statuses.count(500) == 5


def test_a_delay_blocks_nobody_else(lab: Lab) -> None:
    """More devices wait than there are threads, for a time that no test waits."""
    lab.factory.add_fault("slow", path="/config", delay=3600)
    sleepers = [lab.device(f"device-{number}") for number in range(2 * THREADS)]
    other = lab.device("other")

    def ask(client: Client) -> None:
        with pytest.raises(requests.RequestException):
            client.session.get(f"{lab.urls.gateway}/config", timeout=TIMEOUT_S)

    threads = [threading.Thread(target=ask, args=(client,)) for client in sleepers]
    for thread in threads:
        thread.start()
    while lab.factory.faults()[0].hits < len(sleepers):
        assert other.get("/device").status_code == 200
    for thread in threads:
        thread.join()


def test_stand_ins_go_when_they_are_not_needed(lab: Lab) -> None:
    """A server that has been slow for long has no more threads than before."""

    def threads() -> int:
        return len([t for t in threading.enumerate() if t.name.startswith("CP Server")])

    lab.factory.add_fault("slow", path="/config", delay=0.3)
    clients = [lab.device(f"device-{number}") for number in range(THREADS)]
    before = threads()

    for _ in range(3):
        with ThreadPoolExecutor(len(clients)) as pool:
            list(pool.map(lambda client: client.get("/config"), clients))

    assert threads() <= before + THREADS  # some have just been told to go


# --- how they are kept ---


def test_a_restart_keeps_faults_and_their_counts(tmp_path: Path) -> None:
    """And the command line reaches a running factory."""
    factory = Factory.create(tmp_path / "factory")
    directory = str(factory.paths.directory)
    answers = []
    token = {"OSF-TOKEN": factory.paths.api_token.read_text().strip()}
    for number in range(2):
        with served(factory.paths.directory) as process:
            until_ready(process)
            if number == 0:
                command = ["fault", "add", directory, "status", "--server", "api"]
                assert main([*command, "--path", "/ota/*", "--status", "500", "--times", "3"]) == 0
            url = f"{factory.urls().api}/ota/devices/"
            answers += [requests.get(url, headers=token, timeout=30) for _ in range(2)]
            process.kill()

    assert [answer.status_code for answer in answers] == [500, 500, 500, 200]
    assert factory.faults()[0].hits == 3


def test_the_control_api_sets_lists_and_removes(lab: Lab) -> None:
    """It is never hit itself, else it could not be undone by it."""
    url = f"{lab.urls.api}/control/faults/"
    with requests.Session() as session:
        session.trust_env = False
        assert session.get(url, timeout=TIMEOUT_S).status_code == 401
        session.headers["OSF-TOKEN"] = lab.factory.paths.api_token.read_text().strip()
        made = session.post(url, json={"action": "drop", "server": "api"}, timeout=TIMEOUT_S)
        assert (made.status_code, made.json()) == (201, {"id": 1})
        with pytest.raises(NO_ANSWER):
            session.get(f"{lab.urls.api}/ota/devices/", timeout=TIMEOUT_S)

        assert session.get(url, timeout=TIMEOUT_S).json() == {
            "faults": [
                {
                    "id": 1,
                    "action": "drop",
                    "server": "api",
                    "hits": lab.factory.faults()[0].hits,
                    "spent": False,
                    "description": ACTIONS["drop"][0],
                }
            ]
        }
        assert session.delete(f"{url}1/", timeout=TIMEOUT_S).status_code == 200
        for name in ("1", "x", "9" * 30):
            assert session.delete(f"{url}{name}/", timeout=TIMEOUT_S).status_code == 404
        lab.factory.add_fault("drop", server="gateway")
        assert session.delete(url, timeout=TIMEOUT_S).json() == {"removed": 1}


BAD: list[dict[str, Any]] = [
    {},
    {"action": "explode"},
    {"action": 1},
    {"action": "drop", "port": 1},
    {"action": "drop", "server": "web"},
    {"action": "drop", "method": "get"},
    {"action": "drop", "path": "config"},
    {"action": "drop", "times": -1},
    {"action": "drop", "times": 1.5},
    {"action": "drop", "times": True},
    {"action": "drop", "times": 10**30},
    {"action": "drop", "done": 1},
    {"action": "drop", "status": 500},
    {"action": "slow"},
    {"action": "slow", "delay": -1},
    {"action": "slow", "delay": float("inf")},
    {"action": "slow", "delay": float("nan")},
    {"action": "slow", "delay": "1"},
    {"action": "status"},
    {"action": "status", "status": 99},
    {"action": "cut", "done": True},
    {"action": "content-type", "content_type": "a\r\nb: c"},
    {"action": "date", "date": "\u00e9"},
    {"action": "tls-close", "path": "/config"},
    {"action": "tls-close", "device": "device-1"},
    {"action": "tls-close", "server": "api"},
    {"action": "tls-stall"},
]


@pytest.mark.parametrize("options", BAD, ids=str)
def test_a_fault_that_cannot_be_is_refused(lab: Lab, options: dict[str, Any]) -> None:
    """In plain words, and nothing is changed."""
    headers = {"OSF-TOKEN": lab.factory.paths.api_token.read_text().strip()}
    answer = requests.post(
        f"{lab.urls.api}/control/faults/",
        data=json.dumps(options),
        headers=headers,
        timeout=TIMEOUT_S,
    )

    assert answer.status_code == 400
    assert answer.json()["message"].startswith("cannot add the fault")
    assert lab.factory.faults() == []


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"[" * 90_000, b'{"action": "drop", "device": "\\ud800"}']
)
def test_what_is_no_fault_at_all_is_refused(lab: Lab, body: bytes) -> None:
    headers = {"OSF-TOKEN": lab.factory.paths.api_token.read_text().strip()}
    url = f"{lab.urls.api}/control/faults/"

    assert requests.post(url, data=body, headers=headers, timeout=TIMEOUT_S).status_code == 400


def test_the_command_line_adds_lists_and_removes(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = str(lab.factory.paths.directory)

    def said(*arguments: str, code: int = 0) -> str:
        assert main(["fault", arguments[0], directory, *arguments[1:]]) == code
        out, err = capsys.readouterr()
        return err if code else out

    options = ["--method", "patch", "--path", "/config", "--done", "--times", "1"]
    assert said("add", "drop", "--server", "gateway", *options) == "1\n"
    assert said("add", "tls-stall", "--delay", "30") == "2\n"
    assert said("list") == (
        "1 drop server=gateway method=PATCH path=/config times=1 done=True hits=0\n"
        "2 tls-stall delay=30.0 hits=0\n"
    )
    assert json.loads(said("list", "--json"))[1]["action"] == "tls-stall"
    assert said("remove", "1") == "removed the fault 1\n"
    assert "cannot remove the fault 1: there is none" in said("remove", "1", code=1)
    assert "cannot add the fault 'slow': it takes delay" in said("add", "slow", code=1)
    assert said("clear") == "removed 1 faults\n"
    for number in (2, -1, 10**30):
        with pytest.raises(FactoryError, match="there is none"):
            lab.factory.remove_fault(number)
    with pytest.raises(FactoryError, match="device cannot be"):
        lab.factory.add_fault("drop", device="\udcff")


def test_a_client_that_goes_away_is_no_mistake_of_ours(
    lab: Lab, device: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every device does that whose patience is shorter than the delay."""
    lab.factory.add_fault("slow", delay=0.5, times=1)
    connection = raw(lab, device)
    connection.sendall(b"GET /config HTTP/1.1\r\nHost: x\r\n\r\n")
    until_hit(lab)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()

    while not any("/config" in seen.path for seen in lab.factory.requests("gateway")):
        pass  # it is noted before the answer is sent

    assert device.get("/device").status_code == 200
    assert "Traceback" not in capfd.readouterr().err


def until_hit(lab: Lab) -> None:
    while not lab.factory.faults()[0].seen:
        pass


def test_silent_connections_neither_count_nor_cost_a_thread(lab: Lab, device: Client) -> None:
    """A client meets the fault of its handshake once it has begun one."""
    lab.factory.add_fault("tls-close", server="gateway")
    port = int(lab.urls.gateway.rpartition(":")[2])
    with ExitStack() as stack:
        for _ in range(THREADS + 4):
            stack.enter_context(socket.create_connection(("localhost", port), TIMEOUT_S))

        assert device.get("/device").status_code == 200

        assert lab.factory.faults()[0].seen == 0


def test_a_bracket_in_a_path_is_a_bracket(lab: Lab) -> None:
    lab.factory.add_fault("status", status=418, path="/a[b]*")
    device = lab.device()

    assert device.get("/abc").status_code == 404
    assert device.get("/a[b]c").status_code == 418
