"""A rotation that fioconfig has left half-done: taken over at every step, and finished."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from fioagent.rotation.rotator import Result
from tests import needs
from tests.fioconfig import STEPS, Fioconfig
from tests.power import PowerCutError, StopAt, Switch, rotate
from tests.test_power_cuts import check_local_state
from tests.world import BUNDLE, PLAIN, SECRET, Ran, World


def check_taken_over(world: World, fioconfig: Fioconfig, *, same_key: bool = True) -> None:
    """Finished with its key, and that key is in one place only."""
    world.check_reachable()
    assert same_key == (fioconfig.key.public_key() == world.key().public_key())
    assert {"app-secret": SECRET, "certs/ca-bundle.pem": BUNDLE, **PLAIN} == world.opened_config()
    assert world.opened_config() == world.opened_device_config()
    assert world.ask("/config", world.old_pair()).status_code == 403
    world.check_nothing_left_behind()
    world.check_no_secret_outside()
    for name, content in world.files().items():
        holds_key = fioconfig.key_pem.encode() in content
        assert not holds_key or name == world.live_pair()[1].name, name
    assert ("CertRotationCompleted", True) == world.event_names()[-1]
    marker = json.loads((world.storage / "cert-rotation.state.completed").read_bytes())
    assert marker["RotationId"] == fioconfig.state["RotationId"]


@pytest.mark.parametrize("recovered", [False, True], ids=["at once", "after recover"])
@pytest.mark.parametrize("steps", range(len(STEPS) + 1))
def test_taken_over_at_every_step(world: World, steps: int, recovered: bool) -> None:
    """From "nothing but an id" to "done, and its file not renamed yet"."""
    fioconfig = Fioconfig(world).run(steps)

    if recovered:
        ran = world.fioagent("recover")
        assert ran.code == 0, ran.err
        assert fioconfig.path.exists() == (steps == 0)
        world.check_reachable()
        world.check_every_value_opens_with_a_key_at_hand()
    ran = world.rotate()

    assert ran.code == 0, ran.err
    check_taken_over(world, fioconfig, same_key=steps > 0)


def lost_before_it_was_saved(fioconfig: Fioconfig, steps: int) -> None:
    """The step was done, and the power failed before the state said so."""
    before = dict(fioconfig.run(steps - 1).state)
    getattr(fioconfig, STEPS[steps - 1])()
    fioconfig.state = before
    fioconfig.save()


@pytest.mark.parametrize("steps", range(1, len(STEPS) + 1))
def test_a_step_that_was_done_and_not_written_down(world: World, steps: int) -> None:
    """Its state is one step behind the world."""
    fioconfig = Fioconfig(world)
    lost_before_it_was_saved(fioconfig, steps)

    assert world.rotate().code == 0

    check_taken_over(world, fioconfig, same_key=steps > 1)


@pytest.mark.parametrize("done", ["pair", "pair twice", "sota", "config"])
def test_a_last_step_that_was_cut_in_half(world: World, done: str) -> None:
    """It writes the pair, then sota.toml, then config.encrypted, and fsyncs no directory."""
    fioconfig = Fioconfig(world).run(4)
    fioconfig.write_pair()
    if done == "pair twice":
        fioconfig.write_pair()
    if done in ("sota", "config"):
        fioconfig.switch_sota()
    if done == "config":
        fioconfig.put_config()

    assert world.fioagent("recover").code == 0
    world.check_reachable()
    if done in ("sota", "config"):
        assert {"app-secret": SECRET, "certs/ca-bundle.pem": BUNDLE, **PLAIN} == (
            world.opened_config()
        )
    assert world.rotate().code == 0

    check_taken_over(world, fioconfig)


def test_the_gateway_has_seen_the_new_pair_already(world: World) -> None:
    """aktualizr-lite was restarted by somebody; the old pair is denied."""
    fioconfig = Fioconfig(world).run(5)
    world.check_reachable()

    assert world.rotate().code == 0

    check_taken_over(world, fioconfig)


def test_the_old_key_file_is_gone_when_it_is_taken_over(world: World) -> None:
    """Then its copy of the configuration is the only one that can be read."""
    fioconfig = Fioconfig(world).run(4)
    fioconfig.write_pair()
    fioconfig.switch_sota()
    (world.storage / "pkey.pem").unlink()
    (world.storage / "client.pem").unlink()

    assert world.rotate().code == 0

    assert {"app-secret": SECRET, "certs/ca-bundle.pem": BUNDLE, **PLAIN} == world.opened_config()
    assert fioconfig.key.public_key() == world.key().public_key()
    assert not fioconfig.path.exists()


@pytest.mark.parametrize("cut", range(1, 90))
@pytest.mark.parametrize("steps", [1, 4, 5])
def test_power_cut_anywhere_while_it_is_taken_over(world: World, steps: int, cut: int) -> None:
    """The key is in fioconfig's file until ours is durable."""
    fioconfig = Fioconfig(world).run(steps)
    switch = Switch(cut)
    try:
        outcome = rotate(world, switch, "certs-1")
    except PowerCutError:
        if not fioconfig.path.exists():
            check_local_state(world)
        world.check_reachable()
        assert world.fioagent("recover").code == 0
        world.check_reachable()
        assert world.rotate("--id", "certs-1").code == 0
    else:
        assert outcome.result is Result.COMPLETED
        assert len(switch.passed) < cut

    check_taken_over(world, fioconfig)


def test_key_material_is_cleaned_out_of_what_fioconfig_completed(world: World) -> None:
    """By any command that may write; the id in it stays the first member, for the handler."""
    fioconfig = Fioconfig(world).run(5)
    world.check_reachable()
    fioconfig.complete()
    marker = world.storage / "cert-rotation.state.completed"
    assert b"PRIVATE KEY" in marker.read_bytes()

    assert world.fioagent("recover").code == 0

    assert b"PRIVATE KEY" not in marker.read_bytes()
    assert marker.read_bytes().startswith(b'{"RotationId":"certs-1",')
    assert set(json.loads(marker.read_bytes())) == set(fioconfig.state) - {
        "NewKey",
        "NewCert",
        "FullConfigEncrypted",
    }
    assert world.rotate("--id", "certs-1").out == "rotation certs-1 is done already\n"


def test_a_completed_state_that_nobody_can_read_is_removed(world: World) -> None:
    """There may be a key in it, and no id that any handler could find."""
    marker = world.storage / "cert-rotation.state.completed"
    marker.write_bytes(b'{"NewKey":"-----BEGIN EC PRIVATE KEY-----')

    world.fioagent("recover")

    assert not marker.exists()


def told(ran: Ran, code: int, line: str) -> None:
    assert ran.code == code, (ran.out, ran.err)
    assert line in ran.err
    assert "PRIVATE" not in ran.err + ran.out


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"NewKey": 1}', b'{"NewKey": "-----BEGIN EC PRIVATE KEY-----\\nAAAA"}'],
)
def test_a_state_that_cannot_be_read_is_left_for_a_person(world: World, content: bytes) -> None:
    """There may be the only copy of a key in it. The live pair goes on."""
    state = world.storage / "cert-rotation.state"
    state.write_bytes(content)

    for command in (("rotate", "--now"), ("recover",), ("cancel",)):
        told(world.fioagent(*command), 78, "cannot take over the rotation of fioconfig")

    assert content == state.read_bytes()
    world.check_old_pair_is_live()


def test_a_state_without_key_or_usable_address_takes_the_address_at_hand(world: World) -> None:
    """There it loops for ever; no EST server was ever asked."""
    fioconfig = Fioconfig(world)
    fioconfig.state["EstServer"] = ""
    fioconfig.save()

    assert world.rotate().code == 0

    check_taken_over(world, fioconfig, same_key=False)


def test_an_id_that_event_servers_drop_is_made_usable(world: World) -> None:
    fioconfig = Fioconfig(world, "my rotation/1").run(2)

    assert world.rotate().code == 0

    world.check_reachable()
    assert world.live_pair()[1].name == "pkey.my-rotation-1.pem"
    assert ("CertRotationCompleted", True) == world.event_names()[-1]
    assert fioconfig.key.public_key() == world.key().public_key()


def test_a_certificate_of_another_key_is_asked_for_again(world: World) -> None:
    """It does not look (an EST server that answers with the old one)."""
    fioconfig = Fioconfig(world).run(2)
    fioconfig.state["NewCert"] = world.old_certificate.decode()
    fioconfig.save()

    assert world.rotate().code == 0

    check_taken_over(world, fioconfig)


def test_a_live_pair_of_the_same_name_is_not_overwritten(world: World) -> None:
    """Our own last rotation had the same id."""
    world.rotate("--id", "certs-1")
    live = world.live_pair()[1].read_bytes()
    (world.storage / "cert-rotation.state.completed").unlink()
    fioconfig = Fioconfig(world, "certs-1")
    fioconfig.state["NewKey"] = fioconfig.key_pem
    fioconfig.save()

    world.fioagent("recover")

    assert live == (world.storage / "pkey.certs-1.pem").read_bytes()
    world.check_reachable()
    assert world.rotate().code == 0
    assert fioconfig.key.public_key() == world.key().public_key()


def test_nothing_is_taken_over_from_a_fioconfig_that_runs(world: World, tmp_path: Path) -> None:
    """It would go on with the same rotation, and write its state again."""
    fioconfig = Fioconfig(world).run(2)
    program = tmp_path / "fioconfig"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as running:
        before = world.files()
        told(world.rotate(), 75, "fioconfig is running")
        assert set(before) | {"fioagent/lock"} == set(world.files())
        assert fioconfig.path.exists()
        running.kill()

    assert world.rotate().code == 0
    check_taken_over(world, fioconfig)


def test_another_rotation_of_fioconfig_beside_an_open_one_is_for_a_person(world: World) -> None:
    """The gateway may wait for either key, so neither is thrown away."""
    world.pause_before_the_commit("certs-1")
    fioconfig = Fioconfig(world, "certs-2").run(1)

    told(world.rotate(), 78, "rotation certs-1 is open with another key")

    assert fioconfig.path.exists()
    world.check_reachable()


def test_a_damaged_state_beside_an_open_rotation_does_not_stop_its_recovery(world: World) -> None:
    """A fioconfig that was started meanwhile: our commit is finished at boot all the same."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("after replace", 5), "certs-1")
    state = world.storage / "cert-rotation.state"
    state.write_bytes(b"{")

    assert world.fioagent("recover").code == 0

    world.opened_config()
    told(world.rotate(), 78, "cannot take over the rotation of fioconfig")
    state.unlink()
    assert world.rotate().code == 0


# --- in pieces, and in bad company ---


def test_key_in_a_state_of_fioconfig_survives_a_damaged_journal(world: World) -> None:
    """The word to go on without a journal is no word to throw fioconfig's key away."""
    fioconfig = Fioconfig(world).run(2)  # locked: the gateway waits for this key
    (world.storage / "fioagent").mkdir()
    (world.storage / "fioagent" / "rotation.journal").write_bytes(b"")

    world.rotate("--id", "certs-9")

    pem = fioconfig.key_pem.replace("\n", "\\n").encode()
    world.check_reachable()
    assert fioconfig.key.public_key() == world.key().public_key() or any(
        pem in content or fioconfig.key_pem.encode() in content
        for content in world.files().values()
    ), "the only copy of the key that the gateway waits for is gone"


@pytest.mark.parametrize("lost", [("key", "certificate"), ("certificate",), ("key",)])
def test_pair_whose_names_were_lost_is_put_back_out_of_the_state(
    world: World, lost: tuple[str, ...]
) -> None:
    """It syncs no directory; sota.toml is there and the pair is not."""
    fioconfig = Fioconfig(world).run(4)
    fioconfig.write_pair()
    fioconfig.switch_sota()
    if "key" in lost:
        fioconfig.new_key.unlink()
    if "certificate" in lost:
        fioconfig.new_certificate.unlink()

    ran = world.fioagent("recover")

    assert ran.code == 0, ran.err
    world.check_reachable()


def test_mismatched_pair_of_fioconfig_is_rescued(world: World) -> None:
    """The EST server sent the old certificate; fioconfig switched to it."""
    fioconfig = Fioconfig(world).run(4)
    fioconfig.state["NewCert"] = world.old_certificate.decode()
    fioconfig.write_pair()
    fioconfig.switch_sota()
    fioconfig.save()

    world.rotate()

    world.check_reachable()


def test_temporary_file_of_fioconfig_with_the_key_in_it_goes_too(world: World) -> None:
    """sotatoml/safewrite.go writes <name>.tmp first; a power cut leaves it, with the key."""
    fioconfig = Fioconfig(world).run(2)
    (world.storage / "cert-rotation.state.tmp").write_text(json.dumps(fioconfig.state))

    assert world.rotate().code == 0

    left = [n for n, content in world.files().items() if b"EC PRIVATE KEY" in content]
    assert [n for n in left if n.startswith("cert-rotation")] == []


def test_unusable_address_of_fioconfig_does_not_poison_later_rotations(world: World) -> None:
    """A bad ESTSERVER left a state without a key. Our settings name a good one."""
    fioconfig = Fioconfig(world)
    fioconfig.state["EstServer"] = "http://est.example:8443/.well-known/est"
    fioconfig.save()

    ran = world.rotate()

    assert ran.code == 0, ran.err


def test_state_of_an_id_that_is_done_does_not_stop_rotations_for_ever(world: World) -> None:
    assert world.rotate("--id", "certs-1").code == 0
    Fioconfig(world, "certs-1").save()
    before = world.live_pair()

    ran = world.rotate()

    assert before != world.live_pair(), ran.out


def test_live_key_under_another_spelling_is_the_same_key(world: World) -> None:
    """sota.toml names the pair by another path: a double slash here, a copy by hand elsewhere."""
    fioconfig = Fioconfig(world).run(5)
    world.sota_toml.write_text(
        world.sota_toml.read_text().replace(
            str(fioconfig.new_key), f"{world.storage}//{fioconfig.new_key.name}"
        )
    )
    world.check_reachable()

    ran = world.rotate()

    assert ran.code == 0, ran.err


def test_process_of_a_strange_name_is_no_crash(world: World, tmp_path: Path) -> None:
    """proc(5): comm is any bytes."""
    program = bytes(tmp_path) + b"/caf\xe9"
    shutil.copy(b"/bin/sleep", program)
    Fioconfig(world).run(2)
    with subprocess.Popen([program, b"60"]) as running:
        try:
            assert world.fioagent("recover").code == 0
        finally:
            running.kill()


def test_a_pair_that_fioconfig_got_from_a_ca_that_the_gateway_distrusts(world: World) -> None:
    """It switches without a proof. The pair before is on the device still."""
    world.factory.set_knob("est_ca", "foreign-ca")
    Fioconfig(world, "certs-1").run(5)

    world.rotate()

    world.check_reachable()


@pytest.mark.parametrize("what", ["damaged state", "foreign key", "marker"])
def test_recovery_does_not_hang_on_files_of_fioconfig(world: World, what: str) -> None:
    """A commit that was cut in half is finished at boot, whatever fioconfig left beside it."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("after replace", 5), "certs-1")
    if what == "damaged state":
        (world.storage / "cert-rotation.state").write_bytes(b"")
    elif what == "marker":
        (world.storage / "cert-rotation.state.completed").mkdir()  # as unreadable as EIO
    else:
        other = Fioconfig(world, "certs-2")
        other.state["NewKey"] = other.key_pem
        other.save()

    ran = world.fioagent("recover")

    assert world.certificate().public_key() == world.key().public_key()
    assert world.opened_config(), ran.err


def test_live_key_behind_a_link_is_not_removed_as_a_copy(world: World) -> None:
    """sota.toml names the stable names, and they are links, as our own rotations leave them."""
    fioconfig = Fioconfig(world).run(5)
    for name, target in (("pkey", fioconfig.new_key), ("client", fioconfig.new_certificate)):
        stable = world.storage / f"{name}.pem"
        stable.unlink()
        stable.symlink_to(target.name)
        text = world.sota_toml.read_text().replace(f'"{target}"', f'"{stable}"')
        world.sota_toml.write_text(text)
    world.check_reachable()

    world.fioagent("recover")

    assert world.live_pair()[1].exists(), "the live key is gone"
    assert world.rotate().code == 0
    world.check_reachable()


def test_stable_names_that_lead_to_the_live_pair_stay(world: World) -> None:
    """A script has made them links to what sota.toml names."""
    fioconfig = Fioconfig(world).run(5)
    (world.storage / "pkey.pem").unlink()
    (world.storage / "pkey.pem").symlink_to(fioconfig.new_key.name)

    assert world.rotate().code == 0

    assert (world.storage / "pkey.pem").exists()


def test_recovery_leaves_its_own_to_a_fioconfig_that_is_installed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts after us at boot, and would begin the same rotation anew with another key."""
    fioconfig = Fioconfig(world).run(3)
    program = tmp_path / "fioconfig"
    shutil.copy("/bin/true", program)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    assert world.fioagent("recover").out == "no rotation is open\n"

    assert fioconfig.path.exists()
    program.unlink()
    (tmp_path / "fioagent").touch(0o755)
    program.symlink_to("fioagent")
    assert "rotation certs-1" in world.fioagent("recover").out
    assert world.rotate().code == 0


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"NewKey": "\\ud800", "RotationId": "certs-1"}']
)
def test_a_state_of_strange_contents_is_no_crash(world: World, content: bytes) -> None:
    (world.storage / "cert-rotation.state").write_bytes(content)

    told(world.rotate(), 78, "cannot take over the rotation of fioconfig")


def names_of_children(pid: int) -> list[str]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path(f"/proc/{child}/comm").read_text().strip() for child in children]


def test_a_fioconfig_in_a_container_is_another_devices(world: World, tmp_path: Path) -> None:
    """The host sees its containers' processes; theirs do not rotate the host's certificate."""
    needs.root_and("unshare", "sleep")
    program = tmp_path / "fioconfig"
    shutil.copy2(shutil.which("sleep") or "", program)
    Fioconfig(world).run(1)
    command = ["unshare", "--pid", "--fork", "--kill-child", str(program), "600"]

    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as container:
        try:
            while "fioconfig" not in names_of_children(container.pid):
                assert container.poll() is None
            ran = world.rotate()
        finally:
            container.kill()

    assert ran.code == 0, ran.err
