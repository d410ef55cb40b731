"""Composition root of configuration: what check-in, extract and run-and-report act through."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fioagent import agent, programs
from fioagent.agent import Agent
from fioagent.config.household import Handlers, Household, Say
from fioagent.confined import ConfinedFiles
from fioagent.errors import MAX_LINE, one_line

# What makes a child of ours find the same device and rules.
_PASSED_ON: Final = ("SECRETS_DIR", "UNSAFE_CALLBACKS", "CONFIG_URL", "FIOAGENT_CONFIG")


@dataclass(frozen=True, slots=True)
class Opened:
    """The device for rotations, and for its configuration."""

    agent: Agent
    household: Household


@contextlib.contextmanager
def opened(
    config: Sequence[str], environ: Mapping[str, str], say: Say, *, outside: bool = True
) -> Iterator[Opened]:
    """By ``-c`` options and environment, as ``agent.opened``.

    Args:
        config: search list of sota.toml.
        environ: SECRETS_DIR, UNSAFE_CALLBACKS and CONFIG_URL are fioconfig's.
        say: told what happens.
        outside: programs are run outside of our own sandbox, if we are in one.

    Raises:
        ConfigError: sota.toml, the settings or a variable cannot be used.
    """
    with agent.opened(config, environ) as found:
        configured = found.device.settings
        handlers = Handlers(
            configured.handlers_directory,
            configured.config_unsafe_handlers,
            configured.handlers_timeout.total_seconds(),
            own_program(environ),
            {name: environ[name] for name in _PASSED_ON if environ.get(name)},
        )
        how = configured.handlers_run if outside else "direct"
        household = Household(
            found.device,
            ConfinedFiles(configured.config_secrets_directory),
            programs.chosen(how),
            handlers,
            configured.actions_directory,
            # Names and output are others' words: one line each, whatever is in them.
            lambda line: say(one_line(line, MAX_LINE)),
        )
        yield Opened(found, household)


def own_program(environ: Mapping[str, str]) -> str:
    """A path that handlers can call us by: FIOCONFIG_BIN as given, else our own program file."""
    given = environ.get("FIOCONFIG_BIN")
    if given:
        return given
    started = os.path.realpath(sys.argv[0]) if sys.argv and sys.argv[0] else ""
    if os.path.basename(started) in ("fioagent", "fioconfig") and os.access(started, os.X_OK):
        return started
    beside = os.path.join(os.path.dirname(sys.executable), "fioagent")
    return shutil.which("fioagent") or beside
