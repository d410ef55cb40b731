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
from fioagent.errors import MAX_LINE, ConfigError, one_line

SECRETS: Final = "/var/run/secrets"
# What makes a child of ours find the same device and rules.
_PASSED_ON: Final = ("SECRETS_DIR", "UNSAFE_CALLBACKS", "CONFIG_URL", "FIOAGENT_CONFIG")
# strconv.ParseBool of Go, which fioconfig's flags go by.
_TRUE: Final = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE: Final = frozenset(("", "0", "f", "F", "false", "FALSE", "False"))


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
    unsafe = _flag(environ, "UNSAFE_CALLBACKS")
    with agent.opened(config, environ) as found:
        configured = found.device.settings
        handlers = Handlers(
            configured.handlers_directory,
            unsafe,
            configured.handlers_timeout_s,
            own_program(environ),
            {name: environ[name] for name in _PASSED_ON if environ.get(name)},
        )
        how = configured.handlers_run if outside else "direct"
        household = Household(
            found.device,
            ConfinedFiles(environ.get("SECRETS_DIR") or SECRETS),
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


def _flag(environ: Mapping[str, str], name: str) -> bool:
    value = environ.get(name, "")
    if value not in _TRUE | _FALSE:
        raise ConfigError(f"cannot use {name}={value!r}: it is neither true nor false")
    return value in _TRUE
