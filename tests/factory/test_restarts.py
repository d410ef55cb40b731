"""``fioagent-factory serve`` killed at any moment: nothing that was answered is lost."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec

from fioagent.factory import Factory, FactoryError, Urls
from fioagent.factory.cli.main import main
from fioagent.factory.pki.certificates import key_digest
from tests import needs
from tests.factory.peers import TIMEOUT_S, Client, Credential, spki_pem
from tests.factory.serving import running, serve_command, started, until_ready
from tests.factory.simulated import SimulatedDevice

DEVICES = 4
KILLS = 6
ANSWERS = 40  # up to so many between a start and the next kill
STUCK_S = 300
ANSWERED = 80  # requests whose lines fill what room the log has left in its last block

BROKEN = (OSError, http.client.HTTPException)


class Line:
    """Whether the factory is there, and how many answers it has given since it began."""

    def __init__(self) -> None:
        self.over = False
        self._served = threading.Event()
        self._changed = threading.Condition()
        self._answers = 0

    def up(self) -> None:
        self._answers = 0
        self._served.set()

    def down(self) -> None:
        self._served.clear()

    def until_served(self) -> None:
        assert self._served.wait(STUCK_S)

    def answered(self) -> None:
        with self._changed:
            self._answers += 1
            self._changed.notify_all()

    def until_answers(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._answers >= count, STUCK_S)


@dataclass(frozen=True)
class Known:
    """What the factory knows of a device."""

    key: str
    next_key: str | None = None
    denied: tuple[str, ...] = ()
    announced: tuple[str, ...] = ()  # new keys, to the event queue
    files: tuple[tuple[str, str], ...] = ()
    files_key: str = ""
    events: tuple[str, ...] = ()

    @classmethod
    def found(cls, factory: Factory, uuid: str) -> Known | None:
        try:
            view = factory.device(uuid)
        except FactoryError:
            return None
        return cls(
            view.public_key_pem,
            view.next_public_key_pem,
            view.denied,
            tuple(
                str(e["NewPubKey"])
                for e in factory.outbox("DEVICE_PUBKEY_CHANGE")
                if e["Uuid"] == uuid
            ),
            tuple((name, entry["Value"]) for name, entry in view.config.items()),
            view.config_public_key_pem,
            tuple(event["eventType"]["id"] for event in factory.events(uuid)),
        )


class Witness:
    """Of one device: the last state that was answered, and the one that is being asked for."""

    def __init__(self, state: Known | None = None) -> None:
        self.answered = self.asked = state

    @contextmanager
    def asking(self, state: Known) -> Iterator[None]:
        self.asked = state
        yield
        self.answered = state

    def check(self, found: Known | None) -> None:
        # In this order: an answer that arrives between the two is one that was asked for.
        assert found in (self.asked, self.answered)


class Dogged(SimulatedDevice):
    """Asks until it is answered. What it may count on from then on is in ``witness``."""

    def __init__(self, urls: Urls, root: Path, credential: Credential, line: Line) -> None:
        super().__init__(urls, root, credential)
        self.line = line
        self.witness = Witness()

    @property
    def known(self) -> Known:
        assert self.witness.answered is not None
        return self.witness.answered

    def ask(self, *what: object, **how: object) -> bytes:
        while True:
            self.line.until_served()
            try:
                answer = super().ask(*what, **how)  # type: ignore[arg-type]
            except BROKEN:
                self.hang_up()
            else:
                self.line.answered()
                return answer

    def check_in(self) -> None:
        with self.witness.asking(Known(self.credential.public_key)):
            super().check_in()

    def patch_config(
        self, reason: str, key: ec.EllipticCurvePrivateKey, files: dict[str, str]
    ) -> None:
        state = replace(self.known, files=tuple(sorted(files.items())), files_key=spki_pem(key))
        with self.witness.asking(state):
            super().patch_config(reason, key, files)

    def announce(self, key: ec.EllipticCurvePrivateKey) -> None:
        with self.witness.asking(replace(self.known, next_key=spki_pem(key))):
            super().announce(key)

    def post_events(self, rotation_id: str, names: Collection[str]) -> None:
        with self.witness.asking(replace(self.known, events=(*self.known.events, *names))):
            super().post_events(rotation_id, names)

    def first_use(self, renewed: Credential) -> None:
        key, known = renewed.public_key, self.known
        state = replace(
            known,
            key=key,
            next_key=None,
            denied=(*known.denied, key_digest(known.key)),
            announced=(*known.announced, key),
        )
        with self.witness.asking(state):
            super().first_use(renewed)


class World:
    """A factory that is killed and served again, its devices and its operator."""

    def __init__(self, factory: Factory, tmp_path: Path) -> None:
        self.factory = factory
        self.line = Line()
        self.witnesses: dict[str, Witness] = {}
        self._tmp_path = tmp_path

    def device_after_device(self, number: int) -> None:
        """Each new to the gateway, and rotated twice."""
        count = 0
        while not self.line.over:
            uuid = f"device-{number}-{count}"
            credential = Credential.issue(self.factory, self._tmp_path / uuid, uuid)
            device = Dogged(self.factory.urls(), self.factory.paths.root, credential, self.line)
            self.witnesses[uuid] = device.witness
            device.check_in()
            device.give_config(one=uuid, other=uuid)
            device.rotate("certs-1")
            device.rotate("certs-2")
            count += 1

    def operate(self) -> None:
        """Two files of a device that does nothing, in one change after the other."""
        uuid = "operated"
        credential = Credential.issue(self.factory, self._tmp_path / uuid, uuid)
        device = Dogged(self.factory.urls(), self.factory.paths.root, credential, self.line)
        self.witnesses[uuid] = device.witness
        device.check_in()
        device.hang_up()
        count = 0
        while not self.line.over:
            files = (("one", f"{count}"), ("other", f"{count}"))
            state = replace(device.known, files=files)
            with device.witness.asking(state):
                self._until_written(uuid, dict(files))
            count += 1

    def _until_written(self, uuid: str, files: dict[str, str]) -> None:
        listed = [{"name": n, "value": v, "unencrypted": True} for n, v in files.items()]
        token = self.factory.paths.api_token.read_text().strip()
        url = f"{self.factory.urls().api}/ota/devices/{uuid}/config/"
        while True:
            self.line.until_served()
            try:
                answer = requests.patch(
                    url,
                    json.dumps({"files": listed}),
                    headers={"OSF-TOKEN": token},
                    timeout=TIMEOUT_S,
                )
            except requests.RequestException:
                continue
            assert 201 == answer.status_code
            self.line.answered()
            return

    def check(self) -> None:
        for uuid, witness in list(self.witnesses.items()):
            witness.check(Known.found(self.factory, uuid))


def test_whatever_was_answered_is_there_after_a_kill_and_the_rest_is_whole(
    unserved: Factory, tmp_path: Path
) -> None:
    """Each device is as it was last answered, or as it asked to be meanwhile: nothing between.

    That is registration, lock, configuration, events, and the switch-over with its denied key
    and its word to the event queue. The addresses stay, and all devices get to their end.
    """
    chance = random.Random(1)  # noqa: S311  # moments, not secrets
    with unserved.serving():
        pass  # so that it has its addresses
    world = World(unserved, tmp_path)
    with ThreadPoolExecutor(DEVICES + 1) as pool:
        lives = [pool.submit(world.device_after_device, number) for number in range(DEVICES)]
        lives.append(pool.submit(world.operate))
        try:
            for _ in range(KILLS):
                _serve_and_kill(world, chance.randint(1, ANSWERS), lives)
                world.check()
        finally:
            world.line.over = True
            with running(serve_command(unserved.paths.directory)):
                world.line.up()
                _until_all_have_ended(lives)

    for uuid, witness in world.witnesses.items():
        assert witness.answered == Known.found(unserved, uuid)


def _serve_and_kill(world: World, answers: int, lives: list[Future[None]]) -> None:
    urls = world.factory.urls()
    with running(serve_command(world.factory.paths.directory)):
        assert urls == world.factory.urls()
        world.line.up()
        world.line.until_answers(answers)
        world.line.down()
    for life in lives:
        if life.done():
            life.result()


def test_an_answer_is_on_the_disk_before_it_is_given(unserved: Factory, tmp_path: Path) -> None:
    """So no power cut takes it back: the last that was done to the database is a sync."""
    needs.root_and("strace")
    log = tmp_path / "calls"
    calls = ["strace", "-f", "-y", "-e", "trace=pwrite64,fsync,fdatasync", "-o", str(log)]
    command = [*calls, *serve_command(unserved.paths.directory)]
    with running(command):
        credential = Credential.issue(unserved, tmp_path / "device", "device-1")
        device = SimulatedDevice(unserved.urls(), unserved.paths.root, credential)
        device.check_in()
        device.announce(ec.generate_private_key(ec.SECP256R1()))
        device.hang_up()

    done = re.findall(r" (\w+)\(\d+<[^>]*/factory\.db-wal>", log.read_text())
    assert "pwrite64" in done
    assert done[-1] in {"fsync", "fdatasync"}


def test_a_key_is_on_the_disk_before_its_certificate_is_asked_for(
    unserved: Factory, tmp_path: Path
) -> None:
    """Else a power cut would leave a gateway with a certificate and no key."""
    needs.root_and("strace")
    log = tmp_path / "calls"
    calls = ["strace", "-f", "-y", "-e", "trace=openat,fsync,fdatasync", "-o", str(log)]
    command = [sys.executable, "-m", "fioagent.factory", "keys", "ca", "rotate-tls"]
    directories = [str(unserved.paths.directory), str(unserved.paths.pki)]

    subprocess.run([*calls, *command, *directories], check=True, capture_output=True)

    told = log.read_text()
    (key,) = re.findall(r"/cloud/(tls-\w+\.key)\", O_WRONLY", told)
    key_synced = told.index(f"/cloud/{key}>)")
    name_synced = told.index("/cloud>)", key_synced)
    assert name_synced < told.rindex("factory.db-wal>)")


def test_a_server_waits_for_the_one_before_it_to_be_gone(unserved: Factory, tmp_path: Path) -> None:
    """What was told to stop, or killed, has the directory or a port for a moment more."""
    needs.root_and("strace")
    with unserved.serving() as first:
        port = urlsplit(first.gateway).port or 0
    directory = os.open(unserved.paths.directory, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    taken = socket.create_server(("127.0.0.1", port))
    log = tmp_path / "calls"
    calls = ["strace", "-f", "-e", "trace=flock,bind", "-o", str(log)]
    command = [*calls, *serve_command(unserved.paths.directory)]
    with started(command) as process:
        _until_told(process, log, "EAGAIN")
        os.close(directory)
        _until_told(process, log, "EADDRINUSE")
        taken.close()
        until_ready(process)

    assert first == unserved.urls()


def _until_told(process: subprocess.Popen[str], log: Path, word: str) -> None:
    while not log.exists() or word not in log.read_text():
        assert process.poll() is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"gateway": 1}', "https://localhost:99999", "https://localhost:x"]
)
def test_a_damaged_factory_json_is_as_none(unserved: Factory, text: str) -> None:
    """New ports are picked, and the file is whole again."""
    if text.startswith("https"):
        text = json.dumps({"gateway": text, "est": text, "api": text, "pid": 1})
    unserved.paths.state.write_text(text)

    with unserved.serving() as urls:
        assert urls == Factory.open(unserved.paths.directory).urls()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Of four megabytes."""
    needs.root_and("mount", "umount")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_answered_500_changes_nothing_and_passes(
    small_disk: Path, tmp_path: Path
) -> None:
    """A plain line on stderr, and all goes on when there is room."""
    factory = Factory.create(small_disk / "lab")
    command = serve_command(factory.paths.directory)
    with running(command, stderr=subprocess.PIPE) as process:
        credential = Credential.issue(factory, tmp_path / "device", "device-1")
        with closing(Client(factory, factory.urls(), credential)) as device:
            assert 201 == device.patch_config(device.public_key, one="1", other="1").status_code
            before = Known.found(factory, "device-1")
            factory.add_fault("slow", delay=0.1, path="/device")
            _fill(small_disk / "filler")

            large = {"one": "2" * 90_000, "other": "2"}
            refused = [device.patch_config(device.public_key, **large) for _ in range(3)]

            assert {500} == {answer.status_code for answer in refused}
            assert "disk is full" in refused[0].json()["message"]
            # A fault that cannot be counted does not act: the request itself says what is wrong.
            assert "disk is full" in device.get("/device", x_ats_target="x").json()["message"]
            assert before == Known.found(factory, "device-1")
            for _ in range(ANSWERED):
                assert 404 == device.get("/nowhere").status_code
            (small_disk / "filler").unlink()
            assert 201 == device.patch_config(device.public_key, **large).status_code
        process.terminate()
        said = process.communicate()[1]

    assert "Traceback" not in said
    assert "cannot write" in said
    assert "gateway.log: No space left on device" in said
    found = Known.found(factory, "device-1")
    assert found is not None
    assert tuple(large.items()) == found.files


def test_a_server_that_cannot_begin_on_a_full_disk_says_why(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    factory = Factory.create(small_disk / "lab")
    with factory.serving():
        pass
    before = factory.paths.state.read_text()
    _fill(small_disk / "filler")

    assert 1 == main(["serve", str(factory.paths.directory)])

    said = capsys.readouterr().err
    assert f"cannot use the factory in {factory.paths.directory}: " in said
    assert before == factory.paths.state.read_text()


def _fill(path: Path) -> None:
    """Until not a byte is left."""
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            with suppress(OSError):
                while file.write(b"x" * size):
                    pass


def _until_all_have_ended(lives: list[Future[None]]) -> None:
    for life in lives:
        life.result(STUCK_S)
