"""The agent's few settings: defaults, who wins, and words for a person who mistyped one."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from fioagent import settings
from fioagent.catalogue import KEYS
from fioagent.disk import LocalDisk
from fioagent.errors import ConfigError
from fioagent.settings import Settings


class _Image(LocalDisk):
    """A disk whose root is a directory, as an image that is not booted."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)

    def read_if_there(self, path: str) -> bytes | None:
        return super().read_if_there(self._root + path)

    def names(self, directory: str) -> list[str]:
        return super().names(self._root + directory)


def _written(root: Path, path: str, text: str) -> str:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")
    return str(file)


def _load(tmp_path: Path, text: str) -> Settings:
    named = _written(tmp_path, "named.toml", text)
    return settings.load(LocalDisk(), {"FIOAGENT_CONFIG": named})


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    """An image without any file of ours rotates as the README says."""
    loaded = settings.load(_Image(tmp_path), {})

    assert Settings() == loaded
    assert loaded.est_server is None
    assert (False, False) == (loaded.est_allow_san_loss, loaded.est_require_chain)
    assert 0.66 == loaded.rotation_due_at
    assert ("gateway", "auto") == (loaded.rotation_trust_check, loaded.services_manager)
    assert ("aktualizr-lite.service",) == loaded.services_restart
    assert {} == loaded.origins


def test_every_setting_can_be_set(tmp_path: Path) -> None:
    loaded = _load(
        tmp_path,
        """
        [est]
        server = "https://est.example/.well-known/est"
        allow_san_loss = true
        require_chain = true
        [rotation]
        due_at = 0.5
        trust_check = "est"
        [token]
        key_ids = ["02", "04"]
        certificate_ids = ["05", "06"]
        [services]
        manager = "none"
        restart = ["a.service", "b.service"]
        """,
    )

    assert "https://est.example/.well-known/est" == loaded.est_server
    assert (True, True) == (loaded.est_allow_san_loss, loaded.est_require_chain)
    assert (0.5, "est") == (loaded.rotation_due_at, loaded.rotation_trust_check)
    assert ("none", ("a.service", "b.service")) == (
        loaded.services_manager,
        loaded.services_restart,
    )
    assert (("02", "04"), ("05", "06")) == (loaded.token_key_ids, loaded.token_certificate_ids)
    assert 9 == len(loaded.origins)
    assert loaded.certificate_policy.allow_san_loss
    assert loaded.certificate_policy.require_chain
    assert loaded.certificate_policy.minimum_life is None


def test_the_device_overrides_the_image_key_by_key(tmp_path: Path) -> None:
    """Files by name within a directory, /etc over /usr/lib; other files are none of ours."""
    _written(tmp_path, "/usr/lib/fioagent/10.toml", "[rotation]\ndue_at = 0.1\n")
    _written(tmp_path, "/usr/lib/fioagent/20.toml", '[rotation]\ndue_at = 0.2\ntrust_check="est"\n')
    _written(tmp_path, "/etc/fioagent/05.toml", "[rotation]\ndue_at = 0.3\n")
    _written(tmp_path, "/etc/fioagent/06.toml.bak", "[rotation]\ndue_at = 0.4\n")

    loaded = settings.load(_Image(tmp_path), {"FIOAGENT_CONFIG": ""})

    assert (0.3, "est") == (loaded.rotation_due_at, loaded.rotation_trust_check)
    assert {
        "rotation.due_at": "/etc/fioagent/05.toml",
        "rotation.trust_check": "/usr/lib/fioagent/20.toml",
    } == loaded.origins


def test_a_named_file_is_the_only_one(tmp_path: Path) -> None:
    """FIOAGENT_CONFIG is for tests and labs: the device's own files are left out."""
    _written(tmp_path, "/etc/fioagent/05.toml", "[rotation]\ndue_at = 0.3\n")
    _written(tmp_path, "/lab.toml", '[services]\nmanager = "none"\n')

    loaded = settings.load(_Image(tmp_path), {"FIOAGENT_CONFIG": "/lab.toml"})

    assert (0.66, "none") == (loaded.rotation_due_at, loaded.services_manager)
    assert {"services.manager": "/lab.toml"} == loaded.origins


def test_a_named_file_has_to_be_there(tmp_path: Path) -> None:
    """Whoever names a file wants it read."""
    absent = os.path.join(tmp_path, "absent.toml")

    with pytest.raises(ConfigError, match=rf"cannot read {absent}: no such file"):
        settings.load(LocalDisk(), {"FIOAGENT_CONFIG": absent})


@pytest.mark.parametrize(
    "text",
    ["[est]\nservr = 'x'", "[esst]\nserver = 'x'", "[est.server]\nurl = 'x'", "[rotation]\nx = 1"],
)
def test_an_unknown_key_is_an_error(tmp_path: Path, text: str) -> None:
    """A typo must not pass as set; the hint lists what there is."""
    with pytest.raises(ConfigError, match=r"cannot use \w+\.\w+ in .*named\.toml: ") as caught:
        _load(tmp_path, text)
    if "there is no such setting" in str(caught.value):
        assert "est.server, est.label" in str(caught.value.hint)


def test_a_key_outside_a_section_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"cannot use server in .*: it belongs under a \[section\]"
    ):
        _load(tmp_path, "server = 'x'")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[est]\nserver = 5", r"est\.server in .*named\.toml: it is not a string"),
        ("[est]\nallow_san_loss = 1", r"est\.allow_san_loss in .*: it is not true or false"),
        ("[est]\nrequire_chain = 'yes'", r"est\.require_chain in .*: it is not true or false"),
        ("[rotation]\ndue_at = '0.5'", r"rotation\.due_at in .*: it is not a number"),
        ("[rotation]\ndue_at = true", r"rotation\.due_at in .*: it is not a number"),
        ("[token]\nkey_ids = '01,07'", r"token\.key_ids in .*: it is not a list of strings"),
        ("[token]\nkey_ids = [1, 7]", r"token\.key_ids in .*: it is not a list of strings"),
        ("[token]\nkey_ids = ['01', '10']", r"key_ids in .*: '10' is none of 01 to 09"),
        ("[token]\nkey_ids = ['01', '']", r"key_ids in .*: '' is none of 01 to 09"),
        ("[token]\ncertificate_ids = ['03']", r"certificate_ids in .*: it needs two ids at least"),
        ("[token]\ncertificate_ids = ['3', '03']", r"ids in .*: it needs two ids at least"),
        ("[services]\nrestart = 'a.service'", r"restart in .*: it is not a list of strings"),
        ("[services]\nrestart = ['a', 1]", r"restart in .*: it is not a list of strings"),
    ],
)
def test_a_value_of_another_type_is_told(tmp_path: Path, text: str, complaint: str) -> None:
    """File, key and what it should be, in a sentence fit to be read."""
    with pytest.raises(ConfigError, match=complaint):
        _load(tmp_path, text)


@pytest.mark.parametrize("value", ["0", "-0.5", "1.5", "nan", "inf", "-inf", "66"])
def test_a_share_is_between_0_and_1(tmp_path: Path, value: str) -> None:
    """66 for 66 percent would never rotate, 0 always."""
    with pytest.raises(ConfigError, match=r"rotation\.due_at .*: it is not between 0 and 1"):
        _load(tmp_path, f"[rotation]\ndue_at = {value}")


def test_a_share_may_be_a_whole_number(tmp_path: Path) -> None:
    loaded = _load(tmp_path, "[rotation]\ndue_at = 1")

    assert 1.0 == loaded.rotation_due_at
    assert isinstance(loaded.rotation_due_at, float)


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ("[rotation]\ntrust_check = 'Gateway'", "gateway, est, none"),
        ("[rotation]\ntrust_check = ''", "gateway, est, none"),
        ("[services]\nmanager = 'openrc'", "auto, systemd, none"),
    ],
)
def test_the_choices_are_told(tmp_path: Path, text: str, choices: str) -> None:
    with pytest.raises(ConfigError, match=f"it is none of {choices}"):
        _load(tmp_path, text)


@pytest.mark.parametrize("content", [b"[est", b"\xff\xfe", b"[est]\nserver = x\n"])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_bytes(content)

    with pytest.raises(ConfigError, match=rf"cannot read {broken}: not valid TOML"):
        settings.load(LocalDisk(), {"FIOAGENT_CONFIG": str(broken)})


def test_a_directory_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "dir.toml").mkdir()

    with pytest.raises(ConfigError, match=r"cannot read .*/dir\.toml: is a directory"):
        settings.load(LocalDisk(), {"FIOAGENT_CONFIG": str(tmp_path / "dir.toml")})


# --- durations, variables, and what is shown ---


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("spread = 14", r"rotation\.spread in .*named\.toml: it is not a string"),
        ("spread = 'soon'", r"rotation\.spread in .*: it is no duration such as"),
        ("window = '-1h'", r"rotation\.window in .*: it is no duration"),
        ("due_before_expiry = '99999d'", r"due_before_expiry in .*: it is longer than ten years"),
    ],
)
def test_a_duration_that_is_none_is_told(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        _load(tmp_path, f"[rotation]\n{text}")


def test_variables_of_fioconfig_count_before_files(tmp_path: Path) -> None:
    """The process's own before those of /etc/default/fioconfig, as systemd has it."""
    _written(
        tmp_path,
        "/etc/fioagent/05.toml",
        '[daemon]\ninterval = "1h"\n[config]\nurl = "https://u"\n',
    )
    default = "# by the fleet's owner\nDAEMON_INTERVAL=60\nSECRETS_DIR='/run/s'\nOTHER=x\n"
    _written(tmp_path, "/etc/default/fioconfig", default)

    loaded = settings.load(
        _Image(tmp_path), {"SECRETS_DIR": "/run/t", "SOTA_DIR": "/a,/b", "UNSAFE_CALLBACKS": "true"}
    )

    assert timedelta(minutes=1) == loaded.daemon_interval
    _written(tmp_path, "/etc/default/fioagent", "DAEMON_INTERVAL=90\n")
    assert timedelta(seconds=90) == settings.load(_Image(tmp_path), {}).daemon_interval
    assert ("/run/t", True, "https://u") == (
        loaded.config_secrets_directory,
        loaded.config_unsafe_handlers,
        loaded.config_url,
    )
    assert ("/a", "/b") == loaded.sota_paths
    assert {
        "daemon.interval": "DAEMON_INTERVAL in /etc/default/fioconfig",
        "config.url": "/etc/fioagent/05.toml",
        "config.secrets_directory": "SECRETS_DIR in the environment",
        "config.unsafe_handlers": "UNSAFE_CALLBACKS in the environment",
        "sota.paths": "SOTA_DIR in the environment",
    } == loaded.origins


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DAEMON_INTERVAL", "soon"),
        ("DAEMON_INTERVAL", "0"),
        ("UNSAFE_CALLBACKS", "yes"),
        ("SOTA_DIR", ","),
    ],
)
def test_a_wrong_variable_is_told_with_its_place(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot use {name} in the environment: it "):
        settings.load(_Image(tmp_path), {name: value})
    _written(tmp_path, "/etc/default/fioconfig", f"{name}={value}\n")
    with pytest.raises(ConfigError, match=f"cannot use {name} in /etc/default/fioconfig: it "):
        settings.load(_Image(tmp_path), {})


def test_an_empty_variable_is_not_set(tmp_path: Path) -> None:
    assert {} == settings.load(_Image(tmp_path), {"SOTA_DIR": "", "CONFIG_URL": ""}).origins


def test_a_lab_does_not_see_the_variables_of_the_machine(tmp_path: Path) -> None:
    """FIOAGENT_CONFIG names all there is, but for the process's own."""
    _written(tmp_path, "/etc/default/fioconfig", "DAEMON_INTERVAL=60\n")
    _written(tmp_path, "/lab.toml", "")

    assert {} == settings.load(_Image(tmp_path), {"FIOAGENT_CONFIG": "/lab.toml"}).origins


def test_every_setting_is_shown_with_origin_unit_and_meaning(tmp_path: Path) -> None:
    loaded = _load(tmp_path, '[rotation]\nwindow = "24h"\n')

    rows = {row["key"]: row for row in settings.shown(loaded)}

    assert set(KEYS) == set(rows)
    window = rows["rotation.window"]
    assert ("1d", str(tmp_path / "named.toml")) == (window["value"], window["origin"])
    assert "default" == rows["rotation.spread"]["origin"]
    assert all(row["unit"] and row["meaning"] for row in rows.values())
