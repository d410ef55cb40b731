"""Commands about devices, groups, the deny list and devices that wait."""

from __future__ import annotations

import json

import pytest

from fioagent.factory.cli.main import main
from tests.factory.conftest import Lab
from tests.factory.test_cli import refused


@pytest.fixture
def directory(lab: Lab) -> str:
    return str(lab.factory.paths.directory)


def test_a_device_is_shown_and_deleted(
    lab: Lab, directory: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And let in again by a word."""
    device = lab.device()

    assert 0 == main(["device", "show", directory, "device-1"])
    assert device.public_key == json.loads(capsys.readouterr().out)["public-key"]
    assert 0 == main(["device", "delete", directory, "device-1"])
    assert 403 == device.get("/config").status_code
    capsys.readouterr()
    assert 0 == main(["denied", "list", directory])
    assert "device-1 name=device-1\n" == capsys.readouterr().out
    said = refused(capsys, "device", "add", directory, f"{directory}-d", "--uuid", "device-1")
    assert "is on the denied list" in said
    assert 0 == main(["denied", "remove", directory, "device-1"])
    assert 204 == device.get("/config").status_code

    assert "not on the denied list" in refused(capsys, "denied", "remove", directory, "device-1")
    for command in ("show", "delete", "config-log"):
        assert "does not know it" in refused(capsys, "device", command, directory, "nobody")


def test_the_log_tells_who_and_why(
    lab: Lab, directory: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No value is printed."""
    lab.device()
    lab.factory.set_config("device-1", {"a": b"s3cret"}, plain=True, reason="the auditors")

    assert 0 == main(["device", "config-log", directory, "device-1"])

    said = capsys.readouterr().out
    assert "Created By:    operator\n" in said
    assert "Change Reason: the auditors\nFiles:\n\ta\n" in said
    assert "s3cret" not in said


def test_groups_by_command(lab: Lab, directory: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A rotation for all that are in one."""
    inside, outside = lab.device("device-1"), lab.device("device-2")

    assert 0 == main(["group", "create", directory, "shop", "all shops"])
    assert 0 == main(["group", "set", directory, "device-1", "shop"])
    capsys.readouterr()
    assert 0 == main(["group", "list", directory])
    listed = capsys.readouterr().out
    assert listed.startswith("shop created-at=20")
    assert listed.endswith(" all shops\n")
    assert 0 == main(["rotate-certs", directory, "--group", "shop"])

    assert "fio-rotate-certs" in inside.get("/config").json()
    assert 204 == outside.get("/config").status_code
    assert "it has devices" in refused(capsys, "group", "delete", directory, "shop")
    assert 0 == main(["group", "set", directory, "device-1"])
    assert 0 == main(["group", "delete", directory, "shop"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("rotate-certs", "{}"), "name a device or a --group"),
        (("rotate-certs", "{}", "device-1", "--group", "shop"), "one of them"),
        (("rotate-certs", "{}", "--group", "shop"), "cannot find the device group shop"),
        (("group", "set", "{}", "device-1", "shop"), "cannot find the device group shop"),
        (("group", "create", "{}", "a b"), "cannot call a device group"),
        (("oauth", "approve", "{}", "BCDF-GHJK"), "no device waits with this code"),
        (("oauth", "deny", "{}", ""), "no device waits with this code"),
    ],
)
def test_what_cannot_be_done(
    lab: Lab,
    directory: str,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    lab.device()

    assert said in refused(capsys, *(argument.format(directory) for argument in arguments))


@pytest.mark.parametrize(
    "command",
    [
        *(("device", name) for name in ("show", "delete", "config-log")),
        *(("group", name) for name in ("create", "list", "set", "delete")),
        *(("denied", name) for name in ("list", "remove")),
        *(("oauth", name) for name in ("list", "approve", "deny")),
    ],
)
def test_every_help_has_an_example(
    capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])

    assert 0 == stopped.value.code
    assert f"example: fioagent-factory {' '.join(command)}" in capsys.readouterr().out
