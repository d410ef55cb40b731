"""Who may import whom, where effects may stand, and that ARCHITECTURE.md is true of it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.world import World

TOP = Path(__file__).resolve().parent.parent
PACKAGE = TOP / "fioagent"
MAX_LINES = 350

PURE = {
    "answers",
    "catalogue",
    "causes",
    "certcheck",
    "chain",
    "config.document",
    "config.extraction",
    "config.ports",
    "config.trigger",
    "csrattrs",
    "der",
    "doctor.finding",
    "doctor.ports",
    "ecies",
    "errors",
    "esturl",
    "forms",
    "keystore.object_ids",
    "model",
    "outlook",
    "pkcs7",
    "ports",
    "proxy",
    "readings",
    "redaction",
    "rotation.counting",
    "rotation.events",
    "rotation.machine",
    "rotation.policy",
    "rotation.situation",
    "rotation.timing",
    "sota",
    "supervise",
    "transfer",
    "waiting",
    "x509",
}
ADAPTERS = {
    "clock",
    "confined",
    "dial",
    "disk",
    "est",
    "gateway",
    "http",
    "intercepted",
    "keystore.file",
    "keystore.token",
    "keystore.token_errors",
    "keystore.token_key",
    "keystore.token_store",
    "keystore.tpm",
    "keystore.token_tries",
    "line",
    "openssl",
    "notify",
    "programs",
    "sessions",
    "surroundings",
    "systemd",
    "tls",
    "worker",
}
# Each builds the adapters that it needs, and nobody else does.
ROOTS = {
    "keystore.tokens",
    "agent",
    "configurator",
    "daemon",
    "doctor.examination",
    "doctor.supervised",
    "bundle",
}
# What the resident process may load, besides what a bare interpreter has; each costs memory.
RESIDENT = {"__future__", "_signal", "_socket", "select"}
# What pure code has no business with; os.path computes, the rest of os acts.
EFFECTFUL = {"fcntl", "random", "requests", "shutil", "socket", "subprocess", "tempfile", "time"}
THROUGH_PORTS = {
    "config.check_in",
    "config.extractor",
    "config.household",
    "config.initial",
    "config.report",
    "config.stored",
    "doctor.checks",
    "doctor.credential",
    "doctor.local",
    "doctor.network",
    "doctor.patient",
    "doctor.units",
    "rotation.current_target",
    "rotation.enrolment",
    "rotation.identity",
    "rotation.journal",
    "rotation.memory",
    "rotation.preflight",
    "rotation.rehearsal",
    "rotation.reporter",
    "rotation.rotator",
    "rotation.steps",
    "rotation.undertaking",
    "rotation.wanting",
    "trial",
    "trust",
    "withheld",
}


def modules(*, factory: bool) -> dict[str, Path]:
    """Dotted names below ``fioagent``, without the empty package files."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if (parts[0] == "factory") == factory and path.name != "__init__.py":
            found[".".join(parts)] = path
    return found


def imports(path: Path) -> set[str]:
    """Full names of what a module imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(path: Path) -> set[str]:
    known = set(modules(factory=False))
    own = {name.removeprefix("fioagent.") for name in imports(path) if name.startswith("fioagent.")}
    return own & known


AGENT = modules(factory=False)


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_modules_know_only_pure_modules(name: str) -> None:
    """Decisions can be read and tested without the world."""
    assert ours(AGENT[name]) <= PURE
    assert not {found.partition(".")[0] for found in imports(AGENT[name])} & EFFECTFUL


@pytest.mark.parametrize("name", sorted(THROUGH_PORTS))
def test_rotation_and_configuration_reach_the_world_through_ports_alone(name: str) -> None:
    """That is what makes every effect countable and every power cut testable."""
    assert not ours(AGENT[name]) & (ADAPTERS | ROOTS | {"cli", "fioconfig", "words"})


@pytest.mark.parametrize("name", sorted(set(AGENT) - ADAPTERS - ROOTS))
def test_only_the_composition_roots_build_adapters(name: str) -> None:
    """Adapters know each other; nobody else knows them."""
    assert not ours(AGENT[name]) & ADAPTERS


@pytest.mark.parametrize("name", sorted(AGENT))
def test_the_agent_does_not_know_the_factory(name: str) -> None:
    """A device carries none of the lab, and a mistake cannot pass on both sides."""
    assert not any(found.startswith("fioagent.factory") for found in imports(AGENT[name]))


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "factory").rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_the_factory_does_not_know_the_agent(path: Path) -> None:
    """No codec, no rule and no constant in common; the version number is the exception."""
    own = {name for name in imports(path) if name.startswith("fioagent.")}
    assert all(
        name.startswith("fioagent.factory") or name == "fioagent.__version__" for name in own
    )


@pytest.mark.parametrize("name", sorted(AGENT))
def test_only_the_command_line_prints(name: str) -> None:
    """And only disk.py changes files, and confined.py those of the configuration."""
    calls = {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(AGENT[name].read_text()))
        if isinstance(node, ast.Call)
    }
    assert name == "cli" or "print" not in calls
    changing = {"os.replace", "os.rename", "os.unlink", "os.mkdir", "os.symlink", "os.open"}
    assert name in ("disk", "confined") or not calls & changing


@pytest.mark.parametrize(
    "path", [*AGENT.values(), *modules(factory=True).values()], ids=lambda p: p.stem
)
def test_a_module_is_one_room(path: Path) -> None:
    """What needs more lines is two things."""
    assert len(path.read_text().splitlines()) <= MAX_LINES


def test_the_map_shows_every_room() -> None:
    """ARCHITECTURE.md names each module of the agent, and no other."""
    text = (TOP / "ARCHITECTURE.md").read_text()
    for name in [*AGENT, *modules(factory=True)]:
        assert f"{name.rpartition('.')[2]}.py" in text, name


def test_the_resident_process_loads_next_to_nothing() -> None:
    """No TLS, no cryptography, no parser, no enum: it stays in memory for as long as it runs."""
    program = (
        "import os, sys; before = set(sys.modules); "
        f"sys.path.append({str(TOP)!r}); import fioagent.daemon; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True
    )
    others = {name for name in done.stdout.split() if not name.startswith("fioagent")}
    assert others <= RESIDENT


@pytest.mark.parametrize("command", [["status"], ["status", "--short"], ["log"]], ids=" ".join)
def test_a_look_loads_neither_tls_nor_http_nor_the_factory(
    world: World, command: list[str]
) -> None:
    """It starts on every login of a technician; TLS and HTTP cost half of the start."""
    heavy = ["ssl", "_ssl", "http.client", "requests", "urllib3", "flask"]
    heavy += ["fioagent.tls", "fioagent.http", "fioagent.line", "fioagent.est", "fioagent.gateway"]
    program = (
        f"import sys; from fioagent.cli import main; code = main({command}); "
        f"print(code, sorted(set({heavy}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**world.device.env, "PYTHONPATH": str(TOP)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "0 []"
