"""What must be true of a device after a rotation that did not come to its end."""

from __future__ import annotations

from tests.world import Ran, World


def told(ran: Ran, code: int, line: str) -> None:
    """One line that says so, at most a hint below it, and the documented exit code."""
    assert code == ran.code, (ran.out, ran.err)
    first, *hints = ran.err.splitlines()
    assert first.startswith("fioagent: ")
    assert line in first
    assert len(hints) <= 1
    assert all(hint.startswith("  ") for hint in hints)
    assert "Traceback" not in ran.err


def left(world: World) -> set[str]:
    """Names in storage.path beside those of registration, config and lock."""
    usual = {"sota.toml", "root.crt", "current-target", "client.pem", "pkey.pem"}
    return set(world.files()) - usual - {"config.encrypted", "fioagent/lock"}


def check_never_begun(world: World, before: dict[str, bytes]) -> None:
    after = world.files()
    after.pop("fioagent/lock", None)
    assert before == after
    assert world.event_names() == []
    world.check_old_pair_is_live()


def check_over(world: World) -> None:
    """The attempt is over: its journal is archived, everything else is as it was."""
    assert {f"fioagent/{name}" for name in world.journal_names()} == left(world)
    assert len(world.journal_names()) == 1
    assert not (world.storage / "config.encrypted.staged").exists()
    names = world.event_names()
    assert names[0] == ("CertRotationStarted", True)
    assert names[-1] == ("CertRotationCompleted", False)
    assert world.factory.device(world.uuid).next_public_key_pem is None
    world.check_old_pair_is_live()
    assert world.fioagent("status", "--json").lines[0]["rotation"] is None
    assert "\n             because: " in world.fioagent("status").out


def check_open(world: World, phase: str, identifier: str) -> None:
    """To be tried again: what is on the disk is what the journal names."""
    assert {"fioagent/rotation.journal", f"pkey.{identifier}.pem"} == left(world)
    status = world.fioagent("status", "--json").lines[0]
    assert (identifier, phase) == (status["rotation"]["id"], status["rotation"]["phase"])
    assert "\n             waits: cannot " in world.fioagent("status").out
    world.check_old_pair_is_live()
