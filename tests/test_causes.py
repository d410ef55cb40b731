"""Each row of the table of causes is produced by the real thing, and is in the documents."""

from __future__ import annotations

import json
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fioagent import causes
from fioagent.causes import Cause
from fioagent.disk import LocalDisk
from fioagent.doctor.examination import Order, examine
from fioagent.doctor.finding import Finding
from fioagent.factory import Factory, Urls
from tests import cloud, needs
from tests.fioconfig import Fioconfig
from tests.token_world import TokenWorld
from tests.tokens import soft_token, tpm_token
from tests.tunnel import Tunnel, listening
from tests.unit import made
from tests.world import Ran, StoppedClock, World

TOP = Path(__file__).resolve().parent.parent
TABLE = {each.name: each for each in causes.table()}
Told = list[tuple[str, str]]  # messages, each with its hint
# Produced in test_doctor.py, by a real systemd and by a module that hangs.
ELSEWHERE = {"service-not-running", "start-limit", "beside-fioconfig", "no-answer"}


def looked(
    world: World | TokenWorld, *, at: datetime | None = None, online: bool = False, config: Any = ()
) -> Told:
    """What doctor says."""
    clock = None if at is None else StoppedClock(at)
    order = Order(config=config, offline=not online)
    return told(list(examine(order, world.device.env, lambda _: None, clock=clock)))


def told(findings: list[Finding]) -> Told:
    return [(each.message, each.hint or "") for each in findings]


def ended(ran: Ran) -> Told:
    """What a command says that was asked for JSON."""
    lines = [json.loads(line) for line in ran.out.splitlines()]
    return [(line["message"], line.get("hint") or "") for line in lines if "message" in line]


def rotated(world: World | TokenWorld, *arguments: str) -> Told:
    return ended(world.fioagent("rotate", "--now", "--json", *arguments))


def edit(path: Path, text: str, other: str) -> None:
    before = path.read_text()
    assert text in before
    path.write_text(before.replace(text, other))


def serve_at(world: World, server: str) -> None:
    """The gateway is somewhere else."""
    edit(world.sota_toml, world.urls.gateway, server)


def key_pem() -> bytes:
    return made.key_pem(ec.generate_private_key(ec.SECP256R1()))


# --- what produces each of them: a device of files, in files ---


def not_registered(world: World) -> Told:
    world.sota_toml.unlink()
    return looked(world)


def sota_key_missing(world: World) -> Told:
    text = world.sota_toml.read_text()
    world.sota_toml.write_text(re.sub(r"(?m)^tls_pkey_path.*\n", "", text))
    return looked(world)


def sota_says(text: str) -> Callable[[World], Told]:
    def act(world: World) -> Told:
        world.sota_toml.write_text(world.sota_toml.read_text() + text)
        return looked(world)

    return act


def two_readings(world: World) -> Told:
    text = world.sota_toml.read_text()
    world.sota_toml.write_text(re.sub(r"(?m)^(tls_pkey_path.*)$", r"\1 # ours", text))
    return looked(world)


def operators_file(world: World) -> Told:
    managed = world.device.directory / "z-50-fioctl.toml"
    managed.write_text(f'[import]\ntls_pkey_path = "{world.live_pair()[1]}"\n')
    return looked(world, config=(str(world.sota_toml), str(managed)))


def read_only(world: World) -> Told:
    needs.root_and("unshare", "mount")
    command = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    before = ("unshare", "--mount", "sh", "-c", command, str(world.storage))
    return ended(world.process("doctor", "--json", "--offline", before=before))


def no_room(world: World) -> Told:
    needs.root_and("unshare", "mount")
    command = (
        'cp -a "$0" "$0.kept" && mount -t tmpfs -o size=200k tmpfs "$0" && '
        'cp -a "$0.kept/." "$0" && exec "$@"'
    )
    before = ("unshare", "--mount", "sh", "-c", command, str(world.storage))
    return ended(world.process("doctor", "--json", "--offline", before=before))


def unknown_setting(world: World) -> Told:
    world.set_setting('[rotation]\nwindw = "1h"')
    return looked(world)


def readable(world: World) -> Told:
    world.storage.chmod(0o755)
    world.live_pair()[1].chmod(0o644)
    return looked(world)


def not_ours(world: World) -> Told:
    needs.root_and()
    os.chown(world.live_pair()[1], 12_345, 0)
    return looked(world)


def trust_file(world: World) -> Told:
    (world.storage / "root.crt").write_text("nothing\n")
    return looked(world)


def at(year: int) -> Callable[[World], Told]:
    return lambda world: looked(world, at=datetime(year, 1, 1, tzinfo=timezone.utc))


def no_certificate(world: World) -> Told:
    world.live_pair()[0].unlink()
    return looked(world)


def no_pair(world: World) -> Told:
    world.live_pair()[1].write_bytes(key_pem())
    return looked(world)


def values_lost(world: World) -> Told:
    value = {"app-secret": {"Value": "bm8gRUNJRVM=", "Unencrypted": False}}
    (world.storage / "config.encrypted").write_text(json.dumps(value))
    return looked(world)


def place_taken(world: World) -> Told:
    (world.storage / "pkey.certs-1.pem").write_bytes(b"")
    return rotated(world, "--id", "certs-1")


def no_name(world: World) -> Told:
    serve_at(world, "https://gateway.invalid:8443")
    return looked(world, online=True)


def not_reached(world: World) -> Told:
    with listening(lambda _: None) as port:
        pass
    serve_at(world, f"https://localhost:{port}")
    return looked(world, online=True)


def through(world: World, port: int) -> Told:
    url = f'url = "http://127.0.0.1:{port}"'
    world.set_setting(f'[proxy]\n{url}\nuse_for = ["est"]')
    return looked(world, online=True)


def no_proxy(world: World) -> Told:
    with listening(lambda _: None) as port:
        pass
    return through(world, port)


def proxy_refuses(world: World) -> Told:
    with listening(Tunnel(b"HTTP/1.1 403 Forbidden\r\n\r\n")) as port:
        return through(world, port)


def not_trusted(world: World) -> Told:
    """Another name than the certificate's, which is nobody's interception."""
    with listening(talker(world), address="127.0.0.2") as port:
        serve_at(world, f"https://127.0.0.2:{port}")
        return looked(world, online=True)


def intercepted(world: World) -> Told:
    foreign = world.factory.authority("foreign-ca").certificate
    (world.storage / "root.crt").write_bytes(made.pem(foreign))
    return looked(world, online=True)


def talker(world: World, answer: bytes = b"") -> Callable[[Any], None]:
    """The gateway's name and certificate, and no question for the client's: what ends TLS there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*cloud.pair(world.factory, "tls-crt"))

    def act(connection: Any) -> None:
        with context.wrap_socket(connection, server_side=True) as line:
            while b"\r\n\r\n" not in line.recv(65536):
                pass
            line.sendall(answer)

    return act


def stripped(world: World) -> Told:
    """As nginx says it."""
    words = b"400 No required SSL certificate was sent"
    answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%s" % (len(words), words)
    with listening(talker(world, answer)) as port:
        serve_at(world, f"https://localhost:{port}")
        return looked(world, online=True)


def refused(world: World) -> Told:
    world.factory.set_knob("est_ca", "foreign-ca")
    return rotated(world)


def unsupported(world: World) -> Told:
    world.factory.set_knob("config_device", "404")
    return looked(world, online=True)


def waits_for_another(world: World) -> Told:
    world.announce(ec.generate_private_key(ec.SECP256R1()).public_key(), world.live_pair())
    return rotated(world)


def rotation_open(world: World) -> Told:
    world.pause_before_the_commit("certs-1")
    return looked(world)


def rotation_begun(world: World) -> Told:
    with listening(lambda _: None) as port:
        pass
    world.rotate("--est-server", f"https://localhost:{port}/.well-known/est")
    return looked(world)


def no_est(world: World) -> Told:
    path = Path(world.device.env["FIOAGENT_CONFIG"])
    path.write_text(re.sub(r"(?m)^server = .*\n", "", path.read_text()))
    return looked(world, online=True)


def too_many(world: World) -> Told:
    world.set_setting("[rotation]\nissuances_per_day = 1")
    assert world.rotate().code == 0
    return rotated(world)


def at_work(world: World) -> Told:
    (world.storage / "fioagent").mkdir()
    with LocalDisk().lock(str(world.storage / "fioagent" / "lock"), "rotate"):
        return rotated(world)


def fioconfig_runs(world: World) -> Told:
    Fioconfig(world).run(2)
    program = world.device.directory / "fioconfig"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as running:
        try:
            return looked(world)
        finally:
            running.kill()


def fioconfigs_rotation(world: World) -> Told:
    Fioconfig(world).run(2)
    return looked(world)


def journal_damaged(world: World) -> Told:
    (world.storage / "fioagent").mkdir()
    (world.storage / "fioagent" / "rotation.journal").write_bytes(b"garbage\n")
    return looked(world)


def key_left(world: World) -> Told:
    text = json.dumps({"RotationId": "certs-1", "NewKey": world.live_pair()[1].read_text()})
    (world.storage / "cert-rotation.state.completed").write_text(text)
    return looked(world)


def key_unnamed(world: World) -> Told:
    (world.storage / "pkey.123.pem").write_bytes(key_pem())
    return looked(world)


IN_FILES: dict[str, Callable[[World], Told]] = {
    "clock": at(1970),
    "not-registered": not_registered,
    "sota-key-missing": sota_key_missing,
    "sota-not-toml": sota_says("[\n"),
    "sota-not-ini": sota_says('\n[extra]\ntags = [\n  "a",\n]\n'),
    "sota-two-readings": two_readings,
    "sota-managed": operators_file,
    "sota-read-only": read_only,
    "unknown-setting": unknown_setting,
    "no-room": no_room,
    "storage-read-only": read_only,
    "readable-by-others": readable,
    "not-ours": not_ours,
    "trust-file": trust_file,
    "root-expired": at(2090),
    "certificate-missing": no_certificate,
    "pair-mismatch": no_pair,
    "certificate-expired": at(2090),
    "values-lost": values_lost,
    "place-taken": place_taken,
    "name-not-found": no_name,
    "not-reached": not_reached,
    "proxy-not-reached": no_proxy,
    "proxy-refuses": proxy_refuses,
    "not-trusted": not_trusted,
    "intercepted": intercepted,
    "certificate-removed": stripped,
    "certificate-refused": refused,
    "no-rotation": unsupported,
    "waits-for-another-key": waits_for_another,
    "rotation-open": rotation_open,
    "rotation-begun": rotation_begun,
    "no-est-server": no_est,
    "too-many-requests": too_many,
    "at-work": at_work,
    "fioconfig-runs": fioconfig_runs,
    "fioconfigs-rotation": fioconfigs_rotation,
    "journal-damaged": journal_damaged,
    "key-left-behind": key_left,
    "key-unnamed": key_unnamed,
}


# --- a token's ---


def edited(text: str, other: str) -> Callable[[TokenWorld], Told]:
    def act(world: TokenWorld) -> Told:
        world.edit_sota(text, other)
        return rotated(world)

    return act


def wrong_pin(world: TokenWorld) -> None:
    text = (world.storage / "sota.toml").read_text()
    (world.storage / "sota.toml").write_text(re.sub(r'(?m)^pass = ".*"$', 'pass = "0000"', text))


def pin_wrong(world: TokenWorld) -> Told:
    wrong_pin(world)
    return rotated(world)


def id_taken(world: TokenWorld) -> Told:
    world.token.make_key("07", "customer")
    return rotated(world)


def not_deriving(world: TokenWorld) -> Told:
    return rotated(world)


def pin_last_try(world: TokenWorld) -> Told:
    wrong_pin(world)
    for _ in range(2):
        rotated(world)
    with world.token.at_hand():
        return looked(world)


def tpm_locked(world: TokenWorld) -> Told:
    wrong_pin(world)
    for _ in range(3):
        rotated(world)
    return rotated(world)


def pin_locked(world: TokenWorld) -> Told:
    """A TPM behind a daemon, which does not tell us of its counters."""
    wrong_pin(world)
    tcti = world.token.env["TPM2_PKCS11_TCTI"].replace("swtpm:", "libtss2-tcti-swtpm.so.0:")
    world.token = replace(world.token, env={**world.token.env, "TPM2_PKCS11_TCTI": tcti})
    return tpm_locked(world)


IN_SOFTHSM: dict[str, Callable[[TokenWorld], Told]] = {
    "token-module": edited("libsofthsm2.so", "libnothing.so"),
    "token-missing": edited("[p11]", '[p11]\nlabel = "other"'),
    "pin-wrong": pin_wrong,
    "token-object-missing": edited('tls_pkey_id = "01"', 'tls_pkey_id = "05"'),
    "token-id-taken": id_taken,
    "key-does-not-derive": not_deriving,
}
IN_A_TPM: dict[str, Callable[[TokenWorld], Told]] = {
    "pin-last-try": pin_last_try,
    "tpm-locked": tpm_locked,
    "pin-locked": pin_locked,
}


def as_pattern(text: str) -> str:
    """Whatever the facts are."""
    return re.sub(r"\\\{\w+\\\}", ".*", re.escape(text))


def check_told(cause: Cause, found: Told) -> None:
    """Its words and its remedy, in one line; a hint that says it better is one all the same."""
    words, remedy = as_pattern(cause.words), as_pattern(cause.remedy)
    hints = [hint for message, hint in found if re.fullmatch(words, message)]
    assert hints, (cause.words, found)
    assert all(hints)
    if cause is not causes.REFUSED:  # an alert may tell more
        assert [hint for hint in hints if re.fullmatch(remedy, hint)], (remedy, hints)


@pytest.mark.parametrize("name", sorted(IN_FILES))
def test_a_device_with_its_key_in_a_file(world: World, name: str) -> None:
    check_told(TABLE[name], IN_FILES[name](world))


@pytest.mark.parametrize("name", sorted(IN_SOFTHSM))
def test_a_device_with_its_key_in_a_token(
    served: tuple[Factory, Urls], tmp_path: Path, name: str
) -> None:
    usages = ("--usage-sign",) if name == "key-does-not-derive" else ()
    world = TokenWorld(*served, tmp_path / "device", soft_token(tmp_path / "token", *usages))

    check_told(TABLE[name], IN_SOFTHSM[name](world))


@pytest.fixture
def tpm_world(served: tuple[Factory, Urls], tmp_path: Path) -> Iterator[TokenWorld]:
    with tpm_token(tmp_path / "tpm") as token:
        yield TokenWorld(*served, tmp_path / "device", token)


@pytest.mark.parametrize("name", sorted(IN_A_TPM))
def test_a_device_with_its_key_in_a_tpm(tpm_world: TokenWorld, name: str) -> None:
    check_told(TABLE[name], IN_A_TPM[name](tpm_world))


def test_every_row_is_produced() -> None:
    """A row that nothing makes is none; one that is made elsewhere is named there."""
    assert set(TABLE) == set(IN_FILES) | set(IN_SOFTHSM) | set(IN_A_TPM) | ELSEWHERE
    others = (TOP / "tests" / "test_doctor.py").read_text()
    assert [name for name in ELSEWHERE if name not in others] == []


def test_the_page_of_technicians_has_every_row() -> None:
    """docs/technicians.md: words with ... for what differs, and the remedy."""
    page = (TOP / "docs" / "technicians.md").read_text()
    section = page.partition("\n## Symptoms and remedies\n")[2].partition("\n## ")[0]
    shown = [line for line in section.splitlines() if line.startswith("| `")]
    rows = [
        f"| `{each.name}` | {plain(each.words)} | {plain(each.remedy)} |" for each in causes.table()
    ]
    assert shown == rows


def plain(text: str) -> str:
    return re.sub(r"\{\w+\}", "...", text).replace("|", "\\|")
