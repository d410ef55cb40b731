"""The simulation is true to the factory, the oracle can fail, and a few cuts and faults."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from fioagent import agent, x509
from fioagent.disk import LocalDisk
from fioagent.errors import AgentError
from fioagent.factory.pki import certificates
from fioagent.model import CredentialRef, ObjectIds, RotationId
from fioagent.ports import Disk, Gateway
from fioagent.site import Device
from tests.crash import canonical, faults, look, ports, runs, scenarios, weeks
from tests.crash.disturbances import Fault
from tests.crash.disturbing import Disturbed
from tests.crash.findings import Found
from tests.crash.memory import MemoryDisk
from tests.crash.recording import Recording
from tests.crash.runs import After, Scenario, rotate
from tests.crash.servers import EST_URL, Servers
from tests.crash.simulated import in_memory, sealed_config
from tests.test_power_cuts import POINTS_IN_A_CLEAN_RUN
from tests.world import World

# --- true to the factory ---


class Asked:
    """A script of requests to servers, real or simulated, and what they said to each."""

    def __init__(self, device: Device, est_url: str) -> None:
        self.device = device
        self.est_url = est_url
        self.said: list[tuple[object, ...]] = []
        self.old = device.live_credential()
        self.new = self.made("new")
        self.other = self.made("other")

    def made(self, name: str) -> CredentialRef:
        credential = self.device.keys.place_for(RotationId(name), self.old, ObjectIds())
        self.device.keys.generate(credential, self.old, announced=False)
        return credential

    def pem(self, credential: CredentialRef) -> str:
        return x509.spki_pem(self.device.keys.private_key(credential).public_key())

    def ask(self, what: str, act: Callable[[], object]) -> None:
        try:
            answer = act()
        except AgentError as error:
            status, alert = (getattr(error, name, None) for name in ("status", "alert"))
            self.said.append((what, type(error).__name__, status, alert))
        else:
            self.said.append((what, answer))

    def gateway(self, credential: CredentialRef) -> Gateway:
        return self.device.sessions.gateway(credential)

    def enrolled(self, credential: CredentialRef) -> int:
        """By the old pair; the number of certificates in the answer."""
        key = self.device.keys.private_key(credential)
        renewed = self.device.keys.certificate(self.old)
        assert renewed is not None
        request = x509.signing_request(key, renewed)
        answer = self.device.sessions.est(self.est_url, self.old).reenroll(request).certificates
        issued = x509.Certificate.from_der(answer[0])
        self.device.keys.store_certificate(credential, issued)
        return len(answer)

    def config_names(self, credential: CredentialRef) -> list[str]:
        content = self.gateway(credential).device_config()
        return sorted(json.loads(content or b"{}"))

    def script(self) -> list[tuple[object, ...]]:
        """Everything that a rotation asks, right and wrong, before and after the switch-over."""
        old, new, other = self.old, self.new, self.other
        event = {
            "id": "6f1f6b7e-9f4c-4d5c-8f0e-0d6a3b1c2d3e",
            "deviceTime": "2026-11-20T12:00:00Z",
            "event": {"correlationId": "c", "success": True, "targetName": "", "version": "0"},
            "eventType": {"id": "CertRotationStarted", "version": 0},
        }
        patch = self.gateway(old).patch_config
        self.ask("no certificate yet", lambda: self.gateway(new).check())
        self.ask("old", lambda: self.gateway(old).check())
        self.ask("config", lambda: self.config_names(old))
        self.ask("not a request", lambda: self.device.sessions.est(self.est_url, old).reenroll(b""))
        self.ask("enrol", lambda: self.enrolled(new))
        self.ask("enrol", lambda: self.enrolled(other))
        self.ask("handshake", lambda: self.gateway(new).handshake())
        self.ask("not announced", lambda: self.gateway(new).check())
        self.ask("config under a key not announced", lambda: patch([], self.pem(new)))
        self.ask("present key", lambda: self.gateway(old).set_next_key(self.pem(old)))
        self.ask("announce", lambda: self.gateway(old).set_next_key(self.pem(new)))
        self.ask("again", lambda: self.gateway(old).set_next_key(self.pem(new)))
        self.ask("another", lambda: self.gateway(old).set_next_key(self.pem(other)))
        self.ask("present key, locked", lambda: self.gateway(old).set_next_key(self.pem(old)))
        self.ask("config under the old key", lambda: patch([], self.pem(old)))
        self.ask("config under the new key", lambda: patch([], self.pem(new)))
        self.ask("events", lambda: self.gateway(old).post_events([event]))
        self.ask("the same events", lambda: self.gateway(old).post_events([event]))
        self.ask("no key", lambda: self.gateway(old).set_next_key("no key"))
        self.ask("old is still good", lambda: self.gateway(old).check())
        self.ask("first use", lambda: self.gateway(new).check())
        self.ask("old is denied", lambda: self.gateway(old).check())
        self.ask("old is denied", lambda: self.config_names(old))
        self.ask("back to a denied key", lambda: self.gateway(new).set_next_key(self.pem(old)))
        self.ask("announced already", lambda: self.gateway(new).set_next_key(self.pem(new)))
        self.ask("never announced", lambda: self.gateway(other).check())
        self.ask("config", lambda: self.config_names(new))
        self.ask("denied, and enrols", lambda: self.enrolled(other))
        return self.said


def test_simulated_servers_answer_as_the_factory_does(world: World) -> None:
    """The same classes of errors, statuses and alerts to the same questions."""
    with agent.opened([], world.device.env) as real:
        expected = Asked(real.device, world.urls.est).script()
    with in_memory().opened() as simulated:
        said = Asked(simulated.device, EST_URL).script()

    assert expected == said


@pytest.mark.parametrize("ca", ["online-ca", "foreign-ca"])
def test_a_ca_that_is_not_trusted_is_told_by_the_same_alert(world: World, ca: str) -> None:
    world.factory.set_knob("est_ca", ca)
    device = in_memory()
    device.servers.est_ca = ca
    said = []
    with agent.opened([], world.device.env) as real, device.opened() as simulated:
        for each, est_url in ((real, world.urls.est), (simulated, EST_URL)):
            asked = Asked(each.device, est_url)
            asked.enrolled(asked.new)
            asked.ask("handshake", asked.gateway(asked.new).handshake)
            asked.ask("request", asked.gateway(asked.new).check)
            asked.ask("EST", asked.device.sessions.est(est_url, asked.new).handshake)
            said.append(asked.said)

    assert said[0] == said[1]


@pytest.mark.parametrize("ca", ["online-ca", "foreign-ca"])
def test_a_whole_rotation_leaves_the_same(world: World, ca: str) -> None:
    """Names of files, records of the journal, and events; completed and given up."""
    world.factory.set_knob("est_ca", ca)
    device = in_memory()
    device.servers.est_ca = ca

    world.rotate("--id", "certs-1")
    runs.process(device, rotate("certs-1"))

    found = look.at(device.disk, device.storage)
    assert sorted(world.files()) == sorted(found.files)
    name = "fioagent/ended-000001-certs-1.journal"
    real = look._journal(name, world.files()[name])
    expected = [(each["kind"], each.get("phase")) for each in real.records]
    assert expected == [(each["kind"], each.get("phase")) for each in found.ended[0].records]
    told = [(e["eventType"]["id"], e["event"]["success"]) for e in device.servers.events]
    assert world.event_names() == told


def used(disk: Disk, root: str) -> list[object]:
    """A script of what the agent does with a disk, and what it sees; paths without the root."""
    seen: list[object] = []

    def see(act: Callable[[], object]) -> None:
        try:
            seen.append(act())
        except AgentError as error:
            seen.append((type(error).__name__, str(error).replace(root, "")))

    a, b, link, gone = (f"{root}/{name}" for name in ("a", "b", "link", "gone/x"))
    see(lambda: disk.read(a))
    see(lambda: disk.read_if_there(a))
    see(lambda: disk.names(f"{root}/gone"))
    see(lambda: disk.replace(gone, b""))
    see(lambda: disk.append(gone, b""))
    see(lambda: disk.link(gone, a))
    see(lambda: disk.make_directory(f"{gone}/y"))
    see(lambda: disk.rename(a, b))
    see(lambda: disk.replace(a, b"one"))
    see(lambda: disk.append(a, b" two"))
    see(lambda: disk.append(b, b"three"))
    see(lambda: (disk.read(a), disk.read(b), disk.names(root)))
    see(lambda: disk.link(link, "a"))
    see(lambda: (disk.read(link), disk.real_path(link) == disk.real_path(a)))
    see(lambda: disk.replace(link, b"through the link"))
    see(lambda: disk.read(a))
    see(lambda: disk.rename(b, a))
    see(lambda: (disk.read(link), disk.is_there(b), disk.names(root)))
    see(lambda: disk.remove(a))
    see(lambda: (disk.is_there(link), disk.is_there(a), disk.read_if_there(link)))
    see(lambda: disk.read(link))
    see(lambda: disk.link(link, "b"))
    see(lambda: disk.replace(link, b"made behind the link"))
    see(lambda: (disk.read(b), disk.names(root)))
    for _ in range(2):
        see(lambda: disk.remove(link))
        see(lambda: disk.make_directory(f"{root}/d"))
    see(lambda: (disk.is_directory(f"{root}/d"), disk.is_directory(b), disk.names(root)))
    see(lambda: disk.read_if_there(f"{root}/d"))
    see(lambda: (disk.can_replace(b), disk.can_replace(gone), disk.free_bytes(root) > 0))
    see(lambda: disk.settle([a, b, link]))
    see(lambda: locked_twice(disk, f"{root}/lock"))
    see(lambda: (disk.names(root), disk.read_if_there(b)))
    return seen


def locked_twice(disk: Disk, path: str) -> None:
    with disk.lock(path, "rotate"), disk.lock(path, "rotate"):
        raise AssertionError("two at once")


def test_the_disk_in_memory_does_as_a_real_one(tmp_path: Path) -> None:
    """The same contents, names and errors after the same changes."""
    expected = used(LocalDisk(), str(tmp_path))
    said = used(MemoryDisk(directories=frozenset(("/", "/r"))), "/r")

    assert [_without_process(each) for each in expected] == [_without_process(e) for e in said]


def _without_process(seen: object) -> object:
    return re.sub(r" \(process \d+\)", "", repr(seen))


def test_states_that_differ_in_random_numbers_alone_are_one_state() -> None:
    """Else every run would count thousands of new ones."""
    devices = [in_memory(), in_memory()]
    cuts = []
    for device in devices:
        recording = Recording(device)
        runs.process(device, rotate("certs-1"), recording.wrap)
        cuts.append([canonical.digest(cut.device) for cut in recording.cuts])

    assert cuts[0] == cuts[1]
    assert len(set(cuts[0])) > len(cuts[0]) * 3 / 4


def test_a_value_that_another_key_opens_is_another_state() -> None:
    device = in_memory()
    before = canonical.digest(device)
    assert before == canonical.digest(in_memory())

    device.servers.config = sealed_config(
        certificates.public_pem(certificates.new_key().public_key())
    )

    assert before != canonical.digest(device)


def test_servers_are_the_same_after_dump_and_load() -> None:
    device = in_memory()
    runs.process(device, rotate("certs-1"))

    loaded = Servers.load(device.servers.dump())

    assert loaded == device.servers
    assert loaded.digest() == device.servers.digest()
    assert loaded.digest() != in_memory().servers.digest()


def test_every_change_of_the_servers_is_marked() -> None:
    """Whoever records a run knows what they have seen at each moment."""
    device, marks = in_memory(), list[str]()
    device.servers.mark = marks.append

    runs.process(device, rotate("certs-1"))

    assert marks == [
        "certificate issued",
        "next key announced",
        "config stored",
        "events stored",
        "switched over",
        "events stored",
    ]


# --- a few cuts and faults: whether the layers work at all ---


@pytest.mark.parametrize("after", list(After), ids=lambda after: after.value)
def test_a_part_of_the_cuts(after: After) -> None:
    scenario = Scenario("first rotation", in_memory, rotate("certs-1"))

    found = ports.examined(ports.Part(scenario, after, 3, share=0.01))

    assert found.failures == []
    assert found.points == found.rotated
    assert len(found.states) > 5


def test_a_device_that_goes_another_way_is_told() -> None:
    """The layer fails where a promise does: here the gateway refuses, and it should not."""
    scenario = Scenario(
        "first rotation", partial(scenarios.forgotten, in_memory), rotate("certs-1")
    )

    found = ports.examined(ports.Part(scenario, After.BOOT, 3, share=0))

    assert found.points == found.reverted
    assert len(found.failures) > 3
    assert all("it has ended the other way" in text for _, text in found.failures)


def test_every_cut_of_a_clean_run_is_among_them() -> None:
    """As many effects as the real ports show, and one more cut for each line appended."""
    recording = Recording(in_memory())
    runs.process(recording.device, rotate("certs-1"), recording.wrap)
    points = [point for cut in recording.cuts for point in cut.points]

    appended = points.count("in append")

    assert len(points) - appended == POINTS_IN_A_CLEAN_RUN
    assert appended == points.count("before append") == points.count("after append") > 10


def test_a_few_faults() -> None:
    scenario = Scenario("first rotation", in_memory, rotate("certs-1"))
    found, start = Found(), in_memory()
    chosen = list(faults.cases(scenario, start))[::60]

    for case in chosen:
        faults.disturb(case, Recording(start.copy()), found)

    assert found.failures == []
    assert found.points == len(chosen) > 8


def test_a_fault_that_strands_is_told() -> None:
    """A disk that says it has done what it has not: no agent could stand it."""
    scenario = Scenario("first rotation", in_memory, rotate("certs-1"))
    start = in_memory()
    sota = start.disk.read(f"{start.storage}/sota.toml")
    calls = Disturbed()
    runs.to_the_end(start.copy(), scenario, calls.wrap)
    # The journal, the key, the certificate, the staged configuration, sota.toml.
    at = [i for i, call in enumerate(calls.calls) if call == ("disk", "replace")][4]
    lie = Fault("a lie", "disk", "replace", lambda call: None)
    found = Found()

    faults.disturb(faults.Case(scenario, lie, at, 1, sota), Recording(start.copy()), found)

    assert any("not at its end" in text for _, text in found.failures)


def test_a_week_of_a_gateway_that_is_down() -> None:
    scenario = Scenario("first rotation", in_memory, rotate("certs-1"))
    week = next(week for week in weeks.weeks_of(scenario, count=20, each=30) if "503" in week.name)

    found = weeks.examined(week)

    assert (found.failures, found.rotated) == ([], 1)


def test_rows_add_up() -> None:
    scenario = Scenario(
        "given up", partial(scenarios.refused_by_est, in_memory), rotate("certs-1"), rotates=False
    )

    row = ports.row(scenario, share=0, jobs=1)

    assert (row.layer, row.stranded, row.broken, row.failures) == ("1 ports", 0, 0, ())
    assert row.points == row.reverted > 40
    assert 5 < row.states < row.points
