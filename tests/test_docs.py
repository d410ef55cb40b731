"""What the documents say is what the program does."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
from pathlib import Path

import pytest

from fioagent import cli, log
from fioagent.catalogue import KEYS
from fioagent.factory.knobs import KNOBS
from fioagent.model import Exit
from fioagent.settings import Settings, value_of

TOP = Path(__file__).resolve().parent.parent
README = (TOP / "README.md").read_text()


def rows(heading: str, text: str = README) -> list[list[str]]:
    """The cells of the first table below a heading."""
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_exit_codes_are_the_documented_ones() -> None:
    """2 is argparse's."""
    assert sorted([*map(int, Exit), 2]) == [int(row[0]) for row in rows("Commands")]


def test_settings_and_their_defaults_are_the_documented_ones() -> None:
    """Each key with the value that it has where nothing sets it."""
    shown = {row[0].strip("`"): row[1].strip("`") for row in rows("Settings")}
    defaults = {}
    for key in KEYS:
        value = value_of(Settings(), key)
        defaults[key] = "none" if value is None else json.dumps(value)
    assert defaults == shown
    assert {key.replace(".", "_", 1) for key in KEYS} == {
        field.name for field in dataclasses.fields(Settings) if field.name != "origins"
    }
    variables = {key: known.variable for key, known in KEYS.items() if known.variable}
    lines = {row[0].strip("`"): row[2] for row in rows("Settings")}
    assert [key for key, name in variables.items() if f"variable `{name}`" not in lines[key]] == []


@pytest.mark.parametrize(
    "command",
    [
        *([], ["rotate"], ["status"], ["log"], ["settings"], ["daemon"]),
        *([each] for each in ("doctor", "support-bundle")),
        *(["est", question] for question in ("cacerts", "csrattrs", "reenroll")),
        *(["trust", act] for act in ("show", "add", "retire")),
    ],
    ids=str,
)
def test_help_has_an_example_for_every_option(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """And fits a serial console."""
    with pytest.raises(SystemExit):
        cli.main([*command, "--help"])

    text = capsys.readouterr().out
    if command:
        options = re.findall(r"^  (-\S+)", text, re.MULTILINE)
        assert text.count("e.g.") >= len(options) - 1  # --help itself has none


def test_every_knob_is_in_the_factorys_page() -> None:
    """docs/factory.md is where an integrator looks."""
    page = (TOP / "docs" / "factory.md").read_text()
    assert [name for name in KNOBS if f"`{name}`" not in page] == []


def test_every_kind_of_message_is_in_the_page_of_the_service() -> None:
    """Whoever filters by MESSAGE_ID finds it there."""
    page = (TOP / "docs" / "service.md").read_text()
    kinds = {v for k, v in vars(log).items() if k.isupper() and isinstance(v, str) and len(v) == 32}
    assert len(kinds) == 8
    assert [kind for kind in kinds if f"| `{kind}` |" not in page] == []


def test_documents_link_to_what_is_there() -> None:
    """No dead link between the documents."""
    for page in [*TOP.glob("*.md"), *(TOP / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_shell_blocks_of_the_readme_are_shell() -> None:
    """They are there to be pasted."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 4
    for block in blocks:
        subprocess.run(["bash", "-n", "-c", block], check=True)


def test_settings_are_shown_with_their_origin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No registered device is needed; lines fit a serial console."""
    file = tmp_path / "a.toml"
    file.write_text('[rotation]\nwindow = "24h"\n')
    environ = {"FIOAGENT_CONFIG": str(file), "DAEMON_INTERVAL": "60"}

    assert cli.main(["settings"], environ) == 0
    text = capsys.readouterr().out
    assert cli.main(["settings", "--json"], environ) == 0
    shown = json.loads(capsys.readouterr().out)

    assert 'rotation.window = "1d"' in text
    assert "DAEMON_INTERVAL in the environment" in text
    assert str(file) == shown["rotation.window"]["origin"]
    assert list(KEYS) == list(shown)
