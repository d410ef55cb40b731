"""Many devices rotate at once; how fast is measured by ``python3 -m tests bench factory``."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit

import requests

from fioagent.factory import Factory
from fioagent.factory.pki.certificates import key_digest
from fioagent.factory.servers.server import SPARE_FILES, THREADS
from fioagent.factory.servers.traffic import BYTES_KEPT, Request, Traffic
from tests.factory.conftest import Lab
from tests.factory.peers import TIMEOUT_S, Client, Credential
from tests.factory.serving import running, serve_command
from tests.factory.simulated import AFTER, BEFORE, SimulatedDevice

DEVICES = 100
FEW_FILES = SPARE_FILES + 60
STUCK_S = 60


def test_a_hundred_devices_rotate_at_once(lab: Lab) -> None:
    """None meets an error; each has its new key, its files, its old key denied, events once."""
    devices = [
        SimulatedDevice(lab.urls, lab.factory.paths.root, lab.credential(f"device-{number}"))
        for number in range(DEVICES)
    ]
    old = {device.uuid: key_digest(device.credential.public_key) for device in devices}

    with ThreadPoolExecutor(DEVICES) as pool:
        list(pool.map(_life, devices))  # raises what any of them has met

    found = {view.uuid: view for view in lab.factory.all_devices()}
    assert old.keys() == found.keys()
    for device in devices:
        view, key = found[device.uuid], device.credential.public_key
        assert (key, None) == (view.public_key_pem, view.next_public_key_pem)
        assert (old[device.uuid],) == view.denied
        assert key == view.config_public_key_pem
        assert {"secret": f"of {device.uuid}"} == {n: f["Value"] for n, f in view.config.items()}
        told = [event["eventType"]["id"] for event in lab.factory.events(device.uuid)]
        assert [*BEFORE, *AFTER] == told
    changes = Counter(event["Uuid"] for event in lab.factory.outbox("DEVICE_PUBKEY_CHANGE"))
    assert dict.fromkeys(old, 1) == changes
    assert 0 == lab.factory.handshakes("gateway")[1]


def _life(device: SimulatedDevice) -> None:
    device.check_in()
    device.give_config(secret=f"of {device.uuid}")
    device.rotate("certs-1")


def test_serve_remembers_requests_for_the_page(unserved: Factory, tmp_path: Path) -> None:
    """Those of a rotation are beside its steps."""
    with running(serve_command(unserved.paths.directory)):
        credential = Credential.issue(unserved, tmp_path / "device", "device-1")
        _life(SimulatedDevice(unserved.urls(), unserved.paths.root, credential))
        headers = {"OSF-TOKEN": unserved.paths.api_token.read_text().strip()}
        with requests.Session() as session:
            session.trust_env = False
            url = f"{unserved.urls().api}/control/view"
            view = session.get(url, headers=headers, timeout=TIMEOUT_S).json()

    asked = {(each["method"], each["path"]) for each in view["rotations"][0]["requests"]}
    assert {("PATCH", "/device"), ("PATCH", "/config"), ("POST", "/events")} <= asked


def test_what_is_remembered_of_requests_has_an_end() -> None:
    """The newest stay, however large their bodies are."""
    traffic = Traffic(StringIO())
    large = Request("PATCH", "/config", 201, "", b"x" * (BYTES_KEPT // 10), {})

    for number in range(30):
        traffic.saw_request(large._replace(path=f"/{number}"), None)

    assert [f"/{number}" for number in range(20, 30)] == [r.path for r in traffic.requests()]


def test_clients_that_stop_in_a_handshake_hold_up_nobody(lab: Lab) -> None:
    """More of them than there are threads: one has to speak to be given the time of any."""
    port = urlsplit(lab.urls.gateway).port or 0
    silent = [socket.create_connection(("localhost", port)) for _ in range(THREADS * 2)]
    try:
        for number, connection in enumerate(silent):
            if number % 2:
                connection.sendall(b"\x16\x03\x01\x02\x00")  # a ClientHello, but no more of it
        assert 200 == lab.device().get("/device").status_code
    finally:
        for connection in silent:
            connection.close()


def test_a_process_that_may_open_few_files_serves_again_when_some_are_closed(
    unserved: Factory, tmp_path: Path
) -> None:
    """Who comes meanwhile waits, and is served; nothing on stderr but plain lines."""
    limited = ["sh", "-c", f'ulimit -n {FEW_FILES}; exec "$@"', "sh"]
    command = [*limited, *serve_command(unserved.paths.directory)]
    with running(command, stderr=subprocess.PIPE) as process:
        port = urlsplit(unserved.urls().gateway).port or 0
        idle = [socket.create_connection(("localhost", port)) for _ in range(FEW_FILES)]
        log = unserved.paths.log / "gateway.log"
        deadline = time.monotonic() + STUCK_S
        while "cannot accept a connection: Too many open files" not in log.read_text():
            assert time.monotonic() < deadline
        for connection in idle:
            connection.close()
        credential = Credential.issue(unserved, tmp_path / "device", "device-1")
        with closing(Client(unserved, unserved.urls(), credential)) as client:
            assert 200 == client.get("/device").status_code
        process.terminate()
        assert "" == process.communicate()[1]


def test_a_server_takes_as_many_files_as_it_may() -> None:
    """The usual limit of a shell is 1,024; what is allowed beyond it only has to be asked for."""
    program = (
        "import resource\n"
        "from fioagent.factory.servers.server import open_files\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 2000))\n"
        "print(open_files(), *resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )

    assert "2000 2000 2000\n" == ran.stdout
