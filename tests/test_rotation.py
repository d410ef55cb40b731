"""A whole rotation over the real factory: what is true at its end, and how it is told."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone

import pytest

from fioagent.rotation.machine import Phase
from tests.power import PowerCutError, StopAt, rotate
from tests.world import BUNDLE, PLAIN, SECRET, World

FORWARD = [
    "begun",
    "key-generated",
    "cert-issued",
    "locked",
    "config-staged",
    "device-config-updated",
    "committed",
    "confirmed",
    "services-restarted",
    "retired",
    "completed",
]
SUCCESS = [
    ("CertRotationStarted", True),
    ("Generate new certificate", True),
    ("Lock device configuration on server", True),
    ("Update local configuration with new key", True),
    ("Update device specific configuration on server with new key", True),
    ("Finalize aktualizr configuration", True),
    ("CertRotationCompleted", True),
]


def test_every_phase_is_reached_in_order_and_told_live(world: World) -> None:
    """That it is safe, then one line a phase, in the order of the table."""
    ran = world.rotate()

    assert ran.code == 0, ran.err
    safe, headings, *lines = ran.unfolded.splitlines()
    assert safe.startswith("safe to unplug: yes, always")
    assert headings.split()[:3] == ["time", "phase", "live"]
    assert FORWARD == [line.split()[2] for line in lines[:-3]]
    assert ran.err == ""


def test_what_the_gateway_may_learn_is_written_down_before_it_is_told(world: World) -> None:
    """That it may know the new key, and that it may have seen it in use."""
    world.rotate()

    (name,) = world.journal_names()
    lines = (world.storage / "fioagent" / name).read_bytes().splitlines()[1:]
    records = [json.loads(line[9:]) for line in lines]
    said = [(each["kind"], each.get("phase")) for each in records]
    for phase in ("locked", "confirmed"):
        assert said[said.index(("phase", phase)) - 1] == ("attempt", phase)


def test_every_line_fits_a_serial_console(world: World) -> None:
    """80 columns, nothing but ASCII."""
    ran = world.rotate()

    assert ran.out.isascii()
    assert max(map(len, ran.out.splitlines())) < 80


def test_the_new_pair_is_live_and_the_old_one_is_denied(world: World) -> None:
    """The gateway answers the new certificate and refuses the old one."""
    world.rotate()

    world.check_reachable()
    assert world.ask("/config", world.old_pair()).status_code == 403
    public = world.factory.device(world.uuid).public_key_pem
    assert world.ask("/device").json()["pubkey"] == public
    assert world.factory.device(world.uuid).next_public_key_pem is None


def test_exactly_one_credential_and_no_stray_file_is_left(world: World) -> None:
    """Old key, old certificate and staged copies are gone from the disk, bytes and all."""
    world.rotate()

    world.check_nothing_left_behind()
    for name, content in world.files().items():
        assert world.old_key not in content, name
    assert stat.S_IMODE(world.live_pair()[1].stat().st_mode) == 0o600


def test_configuration_opens_with_the_new_key_alone(world: World) -> None:
    """config.encrypted and the device's layer on the gateway, judged by the factory's own code."""
    world.rotate()

    expected = {"app-secret": SECRET, "certs/ca-bundle.pem": BUNDLE, **PLAIN}
    assert expected == world.opened_config()
    assert expected == world.opened_device_config()
    view = world.factory.device(world.uuid)
    assert view.config_public_key_pem == view.public_key_pem


def test_config_keeps_its_time_mode_and_handlers(world: World) -> None:
    """A new time would hide an update: it is what goes out as If-Modified-Since."""
    world.factory.set_config(world.uuid, {"app-secret": SECRET}, on_changed="/usr/share/x")
    world.fetch_config()

    world.rotate()

    status = (world.storage / "config.encrypted").stat()
    assert status.st_mtime == 1_700_000_000
    assert stat.S_IMODE(status.st_mode) == 0o640
    entries = json.loads((world.storage / "config.encrypted").read_bytes())
    assert entries["app-secret"]["OnChanged"] == ["/usr/share/x"]
    assert world.factory.device(world.uuid).config["app-secret"]["OnChanged"] == ["/usr/share/x"]


def test_stable_names_lead_to_the_live_pair(world: World) -> None:
    """fiotest, fio-diag and customers' containers open client.pem and pkey.pem."""
    world.rotate()

    certificate, key = world.live_pair()
    assert (world.storage / "client.pem").resolve() == certificate.resolve()
    assert (world.storage / "pkey.pem").resolve() == key.resolve()


def test_only_two_values_of_sota_toml_change(world: World) -> None:
    """Order, comments and every other line stay as they are."""
    world.sota_toml.write_text("# by hand\n" + world.sota_toml.read_text())
    world.sota_toml.chmod(0o604)
    before = world.sota_toml.read_text().splitlines()

    world.rotate()

    after = world.sota_toml.read_text().splitlines()
    changed = [new.split(" = ")[0] for old, new in zip(before, after, strict=True) if old != new]
    assert ["tls_pkey_path", "tls_clientcert_path"] == changed
    assert stat.S_IMODE(world.sota_toml.stat().st_mode) == 0o604


def test_the_file_of_highest_precedence_that_names_the_pair_is_edited(world: World) -> None:
    """As fioconfig does it: one file gets both keys, so one rename commits them."""
    fragments = world.device.directory / "conf.d"
    fragments.mkdir()
    local = fragments / "z-60-local.toml"
    local.write_text(f'[import]\ntls_clientcert_path = "{world.storage}/client.pem"\n')
    before = world.sota_toml.read_bytes()

    ran = world.fioagent(
        "rotate", "--now", "--id", "certs-1", environ={"SOTA_DIR": f"{world.sota_toml},{fragments}"}
    )

    assert ran.code == 0, ran.err
    assert before == world.sota_toml.read_bytes()
    assert local.read_text() == (
        f'[import]\ntls_clientcert_path = "{world.storage}/client.certs-1.pem"\n'
        f'tls_pkey_path = "{world.storage}/pkey.certs-1.pem"\n'
    )
    pair = (world.storage / "client.certs-1.pem", world.storage / "pkey.certs-1.pem")
    assert world.ask("/config", pair).status_code == 200


def test_the_operator_sees_the_events_of_fioconfig_and_one_truthful_end(world: World) -> None:
    """Names and order of the documents, once each, under one id, with the running target."""
    world.rotate("--id", "certs-42")

    events = world.factory.events(world.uuid)
    assert SUCCESS == world.event_names()
    assert {"certs-42"} == {event["event"]["correlationId"] for event in events}
    assert {"intel-corei7-64-lmp-42"} == {event["event"]["targetName"] for event in events}
    assert {"42"} == {event["event"]["version"] for event in events}
    assert len(events) == len({event["id"] for event in events})


def test_events_travel_in_batches(world: World) -> None:
    """Two requests for seven events: a slow line pays for each."""
    world.factory.clear_requests()

    world.rotate()

    posts = [r for r in world.factory.requests("gateway") if r.method == "POST"]
    assert [5, 2] == [len(json.loads(post.body)) for post in posts]


def test_the_default_id_is_certs_and_the_time(world: World) -> None:
    """Operators look for certs-<unix time>."""
    before = int(datetime.now(timezone.utc).timestamp())

    world.rotate()

    update = world.factory.updates(world.uuid)[0]["correlation-id"]
    prefix, _, number = update.partition("-")
    assert prefix == "certs"
    assert before <= int(number) <= before + 60


def test_the_marker_keeps_the_stock_handler_quiet_and_holds_no_key(world: World) -> None:
    """The handler greps for "RotationId":"<id>", at the start of the marker."""
    world.rotate("--id", "certs-7")

    marker = (world.storage / "cert-rotation.state.completed").read_text()
    assert '"RotationId":"certs-7",' in marker
    world.check_no_secret_outside()


def test_four_handshakes_and_what_goes_over_the_line(world: World) -> None:
    """EST with the old pair; gateway with the old, a bare one and one with the new pair."""
    world.factory.clear_requests()

    world.rotate()

    gateway = [(r.method, r.path) for r in world.factory.requests("gateway")]
    assert gateway == [
        ("GET", "/config-device"),
        ("PATCH", "/device"),
        ("GET", "/config-device"),
        ("PATCH", "/config"),
        ("POST", "/events"),
        ("GET", "/config"),
        ("GET", "/config-device"),
        ("POST", "/events"),
    ]
    assert [r.path.removeprefix("/.well-known/est/") for r in world.factory.requests("est")] == [
        "csrattrs",
        "cacerts",
        "simplereenroll",
    ]
    assert world.factory.handshakes("gateway") == (3, 0)
    assert world.factory.handshakes("est") == (1, 0)


def test_rotating_again_and_again_leaves_nothing_behind(world: World) -> None:
    """The second rotation starts from our own file names, the third from links."""
    first = set(world.files())
    serials = [world.certificate().serial_number]
    for number in range(3):
        assert world.rotate("--id", f"certs-{number}").code == 0
        serials.append(world.certificate().serial_number)

    assert len(set(serials)) == 4
    world.check_nothing_left_behind()
    world.check_reachable()
    journals = world.journal_names()
    assert len(set(world.files()) - first) == 2 + 2 + len(journals)  # the pair; lock, marker
    assert len(journals) == 3


def test_no_configuration_is_lost_to_a_writer_in_between(world: World) -> None:
    """Another agent and an operator write under the old key after the commit; both survive."""
    before = (world.storage / "config.encrypted").read_bytes()
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("before check"), "certs-1")
    (world.storage / "config.encrypted").write_bytes(before)
    world.factory.set_knob("operator_write_locked", "accept")
    world.factory.set_config(world.uuid, {"app-secret": b"changed meanwhile"})

    assert world.rotate().code == 0

    assert world.opened_config()["app-secret"] == SECRET
    assert world.opened_device_config()["app-secret"] == b"changed meanwhile"


def test_a_configuration_that_came_after_the_staging_is_the_one_that_stays(world: World) -> None:
    """What was staged before is stale then, however well it opens."""
    world.factory.set_knob("operator_write_locked", "accept")
    world.pause_before_the_commit("certs-1")
    world.factory.set_config(world.uuid, {"app-secret": b"changed meanwhile"})
    world.fetch_config()

    assert world.rotate().code == 0

    assert world.opened_config()["app-secret"] == b"changed meanwhile"
    assert world.opened_config() == world.opened_device_config()


def test_a_rotation_goes_on_when_nobody_reads(world: World) -> None:
    """As in "fioagent rotate --now | head -1"."""
    command = f"{shlex.quote(sys.executable)} -m fioagent rotate --now | head -1"
    subprocess.run(
        ["bash", "-c", command], env={**os.environ, **world.device.env}, check=True, timeout=60
    )

    status = world.fioagent("status", "--json").lines[0]
    assert (None, "completed") == (status["rotation"], status["last"]["phase"])


def test_status_of_a_broken_pair_still_tells_of_the_rotation(world: World) -> None:
    """That is when a person looks."""
    world.pause_before_the_commit("certs-1")
    (world.storage / "client.pem").unlink()

    ran = world.fioagent("status")

    assert ran.code == 78
    assert "problem      cannot find the certificate" in ran.out
    assert "certs-1 config-staged" in ran.out


def test_a_rotation_that_is_done_is_not_done_again(world: World) -> None:
    """Once per rotation id, also when the handler calls at every boot."""
    world.rotate("--id", "certs-5")
    serial = world.certificate().serial_number

    ran = world.rotate("--id", "certs-5")

    assert ran.code == 0
    assert ran.out == "rotation certs-5 is done already\n"
    assert serial == world.certificate().serial_number


def test_without_now_a_fresh_certificate_is_left_alone(world: World) -> None:
    """Twenty years from registration nothing is due; the answer says when it will be."""
    before = world.files()

    ran = world.fioagent("rotate")

    assert ran.code == 0
    assert "rotation is due on 20" in ran.unfolded
    assert before == {n: c for n, c in world.files().items() if not n.startswith("fioagent/")}


def test_without_now_a_due_certificate_is_rotated(world: World) -> None:
    """rotation.due_at is the share of its life after which a certificate is due."""
    world.factory.set_knob("est_validity_days", "2")
    world.set_setting('[rotation]\ndue_at = 1e-15\nspread = "0s"')

    ran = world.fioagent("rotate")

    assert ran.code == 0
    assert "completed" in ran.unfolded


def test_a_device_without_any_configuration_rotates(new_world: Callable[[], World]) -> None:
    """No config.encrypted and a 204 from the gateway are fine."""
    bare = new_world()

    ran = bare.rotate()

    assert ran.code == 0, ran.err
    assert "no local configuration" in ran.unfolded
    bare.check_reachable()
    bare.check_nothing_left_behind()


@pytest.mark.parametrize("success", ["200", "201"])
def test_both_success_codes_of_est_are_taken(world: World, success: str) -> None:
    """RFC 7030 says 200; foundriesio/estserver answers 201 with another content type."""
    world.factory.set_knob("est_success", success)

    assert world.rotate().code == 0


@pytest.mark.parametrize("check", ["gateway", "est", "none"])
def test_the_trust_check_can_be_chosen(world: World, check: str) -> None:
    """A bare handshake with the new pair, at the peer that the factory chooses."""
    world.set_setting(f'[rotation]\ntrust_check = "{check}"')
    world.factory.clear_requests()

    assert world.rotate().code == 0

    expected = {"gateway": (3, 1), "est": (2, 2), "none": (2, 1)}[check]
    seen = (world.factory.handshakes("gateway")[0], world.factory.handshakes("est")[0])
    assert expected == seen


def test_the_est_request_is_the_one_that_every_server_takes(world: World) -> None:
    """Base64 in lines of 64 with a newline at the end, exact type, no chunks."""
    world.factory.clear_requests()

    world.rotate()

    request = world.factory.requests("est")[-1]
    assert request.headers["content-type"] == "application/pkcs10"
    assert request.headers["content-transfer-encoding"] == "base64"
    assert request.headers["content-length"] == str(len(request.body))
    assert request.headers["connection"] == "close"
    assert "transfer-encoding" not in request.headers
    assert request.body.endswith(b"\n")
    assert max(map(len, request.body.splitlines())) == 64


def test_the_operators_last_trigger_gives_the_est_server(world: World) -> None:
    """Where neither flag nor settings name one."""
    settings = world.device.env["FIOAGENT_CONFIG"]
    with open(settings, "w", encoding="utf-8") as file:
        file.write('[services]\nmanager = "none"\n')
    assert world.rotate().code == 78
    world.factory.rotate_certs(world.uuid)
    world.fetch_config()

    ran = world.rotate()

    assert ran.code == 0, ran.err


def test_json_is_one_object_a_line(world: World) -> None:
    """For machines: every phase, then the end with its exit code; no request bytes."""
    ran = world.rotate("--json")

    assert FORWARD == [line["phase"] for line in ran.lines[:-1]]
    end = ran.lines[-1]
    assert ("end", "completed", 0) == (end["event"], end["result"], end["exit"])
    assert "csr" not in ran.out


def test_a_run_that_goes_on_says_first_from_where(world: World) -> None:
    """Whoever stops it has to know whether it commits; nothing is taken for reached anew."""
    world.pause_before_the_commit("certs-9")

    ran = world.rotate("--json")

    first = ran.lines[0]
    assert (first["event"], first["phase"]) == ("resumed", "config-staged")
    assert [line["phase"] for line in ran.lines[1:-1]] == FORWARD[5:]


def test_a_person_is_told_what_a_run_goes_on_with(world: World) -> None:
    """A plain line, before the phases that follow."""
    world.pause_before_the_commit("certs-9")

    ran = world.rotate()

    assert ran.out.splitlines()[2].endswith(" s  config-staged          old   goes on with certs-9")


def test_status_tells_what_is_live_and_what_was(world: World) -> None:
    """Subject, serial, validity, place of the key, due date, last result."""
    before = world.fioagent("status")
    world.rotate("--id", "certs-9")
    after = world.fioagent("status", "--json").lines[0]

    assert f"CN={world.uuid}" in before.out
    assert "none yet" in before.out
    certificate, key = world.live_pair()
    assert int(after["certificate"]["serial"], 16) == world.certificate().serial_number
    assert (str(certificate), str(key)) == (after["certificate"]["file"], after["key"]["place"])
    assert ("certs-9", Phase.COMPLETED.value) == (after["last"]["id"], after["last"]["phase"])
    assert after["rotation"] is None
    assert after["undelivered_events"] == 0


def test_services_are_reported_as_skipped_where_no_systemd_is(world: World) -> None:
    """Said, not faked."""
    ran = world.rotate()

    assert 'aktualizr-lite.service: skipped, services.manager is "none"' in ran.unfolded
