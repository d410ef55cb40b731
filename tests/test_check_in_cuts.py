"""A check-in that is cut at any point: the next one ends where an uncut one would have."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from fioagent import agent, programs
from fioagent.config import check_in
from fioagent.config.household import Handlers as Rules
from fioagent.config.household import Household
from fioagent.config.ports import SecretFiles
from fioagent.confined import ConfinedFiles
from fioagent.disk import LocalDisk
from fioagent.model import CredentialRef
from fioagent.ports import Disk, Gateway, Sessions
from tests.handlers import Handlers
from tests.power import PowerCutError, Switch
from tests.test_check_in import changed_ago, told
from tests.test_extract import extracted
from tests.world import World


class WiredSecrets:
    """``config.ports.SecretFiles`` behind a switch."""

    def __init__(self, files: ConfinedFiles, switch: Switch) -> None:
        self._files = files
        self._switch = switch
        self.directory = files.directory
        self.read = files.read

    def write(self, name: str, content: bytes) -> None:
        self._switch.point("before write")
        self._files.write(name, content)
        self._switch.point("after write")

    def remove(self, name: str) -> bool:
        self._switch.point("before remove")
        done = self._files.remove(name)
        self._switch.point("after remove")
        return done


class WiredDisk(LocalDisk):
    """The real disk; the power may fail before and after each file of a check-in."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch

    def replace(
        self,
        path: str,
        content: bytes,
        *,
        mode: int = 0o600,
        keep_time: bool = False,
        modified_s: int | None = None,
    ) -> None:
        self._switch.point("before replace")
        super().replace(path, content, mode=mode, keep_time=keep_time, modified_s=modified_s)
        self._switch.point("after replace")


@contextlib.contextmanager
def household(world: World, handlers: Handlers, switch: Switch) -> Iterator[Household]:
    with agent.opened([], world.device.env, disk=cast("Disk", WiredDisk(switch))) as opened:
        secrets = ConfinedFiles(world.device.env["SECRETS_DIR"])
        yield Household(
            opened.device,
            cast("SecretFiles", WiredSecrets(secrets, switch)),
            programs.DirectPrograms(),
            Rules(str(handlers.directory), unsafe=False, limit_s=60, own_program="", passed_on={}),
            "/nowhere",
            lambda _: None,
        )


def cut_check_in(world: World, handlers: Handlers, cut: int) -> Switch:
    switch = Switch(cut)
    with household(world, handlers, switch) as made:
        check_in.check_in(made)
    return switch


BEFORE = {"kept": "1", "changed": "1", "gone/away": "1"}
AFTER = {"kept": "1", "changed": "2", "new/file": "1"}


def on_the_way(world: World) -> Handlers:
    """A device that has one configuration, and a gateway with the next."""
    handlers = Handlers(world)
    note = handlers.noting()

    def configure(files: dict[str, str]) -> None:
        for name in set(world.factory.device(world.uuid).config) - set(files):
            world.factory.remove_config(world.uuid, name)
        encoded = {name: text.encode() for name, text in files.items()}
        world.factory.set_config(world.uuid, encoded, on_changed=note)

    configure(BEFORE)
    changed_ago(world, 100)
    told(world)
    configure(AFTER)
    handlers.place("note").unlink()
    return handlers


CUTS = range(1, 21)


@pytest.mark.parametrize("boots", [False, True], ids=["killed", "booted"])
@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_anywhere_loses_nothing(bare: World, cut: int, *, boots: bool) -> None:
    """Files, stored copy and handlers: each handler is started once, or again only by a boot."""
    handlers = on_the_way(bare)
    with contextlib.suppress(PowerCutError):
        cut_check_in(bare, handlers, cut)

    if boots:
        shutil.rmtree(bare.device.env["SECRETS_DIR"])
        before = set(handlers.told())
        handlers.place("note").unlink(missing_ok=True)
        assert bare.fioagent("extract").code == 0
    told(bare)

    assert extracted(bare) == {name: text.encode() for name, text in AFTER.items()}
    stored = bare.storage / "config.encrypted"
    assert bare.ask("/config").content == stored.read_bytes()
    assert told(bare)["result"] == "unchanged"
    notes = handlers.told()
    if boots:
        # The files of either configuration are new after a boot, and handlers of both run.
        assert {"changed there", "file there"} <= {*notes, *before}
    else:
        # The one that was about to start when the power failed may be lost, and no other.
        due = ["changed there", "away gone", "file there"]
        assert sorted(set(notes)) == sorted(notes)
        assert set(notes) <= set(due)
        assert len(notes) >= len(due) - 1
    memory = json.loads(Path(bare.storage, "fioagent", "check-in.json").read_bytes())
    assert memory["due"] == []


def test_the_cuts_are_all_there_are(bare: World) -> None:
    """The range above reaches beyond the last effect of a whole check-in."""
    passed = cut_check_in(bare, on_the_way(bare), 0).passed

    assert 12 < len(passed) < len(CUTS)


class Overtaken:
    """``ports.Sessions`` of a check-in that another process's rotation overtakes."""

    def __init__(self, sessions: Sessions, world: World) -> None:
        self._sessions = sessions
        self._world = world
        self._is_over = False

    def gateway(self, credential: CredentialRef) -> Gateway:
        if not self._is_over:
            self._is_over = True
            assert self._world.rotate("--id", "certs-1").code == 0
        return self._sessions.gateway(credential)


def test_a_rotation_between_the_look_and_the_question(bare: World) -> None:
    """The credential that it was to be asked with is gone by then: the live one is at hand."""
    handlers = on_the_way(bare)
    assert bare.rotate("--id", "certs-0").code == 0  # from here on no fixed name leads to the next
    with household(bare, handlers, Switch(0)) as made:
        overtaken = cast("Sessions", Overtaken(made.device.sessions, bare))
        device = dataclasses.replace(made.device, sessions=overtaken)
        report = check_in.check_in(dataclasses.replace(made, device=device))

    assert (report.result, report.why) == (
        check_in.Result.NOT_STORED,
        "credential, stored copy or rotation have changed meanwhile",
    )
    assert told(bare)["result"] == "stored"
    assert extracted(bare) == {name: text.encode() for name, text in AFTER.items()}
