"""The checks in a process of their own, which is ended where one of them does not come back.

A token's module may hang, and nothing in its process ends it. So what it holds up is one
check: the others go on in a fresh process, but for those that need what has failed.
"""

from __future__ import annotations

import json
import select
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from fioagent import causes
from fioagent.doctor.examination import Order, names
from fioagent.doctor.finding import Finding, State, read
from fioagent.errors import AgentError, ConfigError
from fioagent.model import Exit
from fioagent.worker import Worker

_NEVER_BEGAN: Final = "configuration"


def examine(
    program: list[str], order: Order, environ: Mapping[str, str], limit_s: float
) -> Iterator[Finding]:
    """Findings as they come; no check takes longer than ``limit_s``."""
    while names(order):
        at, broken, ended = order.after, set(order.failed), ""
        for check, finding in _run(program, order, environ, limit_s):
            at = check or at
            if finding is None:
                continue
            if finding.state is State.FAIL:
                broken.add(finding.check)
            ended = finding.check if finding.exit is Exit.TRY_AGAIN and not check else ended
            yield finding
        if not ended:
            return
        order = replace(order, after=at, failed=tuple(sorted(broken)))


def _run(
    program: list[str], order: Order, environ: Mapping[str, str], limit_s: float
) -> Iterator[tuple[str, Finding | None]]:
    """Each check's name when it begins, each finding; with an empty name, that it did not end."""
    said = {"after": order.after, "failed": list(order.failed)}
    options = [word for path in order.config for word in ("-c", path)]
    options += ["--offline"] if order.offline else []
    worker = _started([*program, "doctor", *options, "--worker", json.dumps(said)], environ)
    at, is_over = next(iter(names(order)), _NEVER_BEGAN), False
    try:
        deadline = time.monotonic() + limit_s
        while not (is_over or worker.is_mute):
            if not _is_readable(worker, deadline):
                yield "", _hung(at, limit_s)
                return
            for line in worker.lines():
                value = json.loads(line)
                if "begins" in value:
                    at, deadline = value["begins"], time.monotonic() + limit_s
                    yield at, None
                elif "check" in value:
                    yield at, read(value)
                else:
                    is_over = True
    finally:
        worker.end(signal.SIGKILL)
        code = worker.close()
    if not is_over:
        yield "", _crashed(at, code)


def _started(command: list[str], environ: Mapping[str, str]) -> Worker:
    try:
        return Worker(command, environ)
    except OSError as error:
        raise ConfigError(f"cannot start {command[0]}: {error.strerror}") from error


def _is_readable(worker: Worker, deadline: float) -> bool:
    waiting = select.poll()
    waiting.register(worker.output, select.POLLIN)
    return bool(waiting.poll(max(deadline - time.monotonic(), 0) * 1000))


def _hung(check: str, limit_s: float) -> Finding:
    words, remedy = causes.HANGS.told({"limit": f"{limit_s:g}"})
    return Finding(check, State.FAIL, words, remedy, causes.HANGS.name, Exit.TRY_AGAIN)


def _crashed(check: str, code: int) -> Finding:
    error = AgentError(
        f"the check's process ended with {code}",
        hint="of a token: its module crashes; is there a newer version of it?",
    )
    return Finding(check, State.FAIL, str(error), error.hint, None, Exit.TRY_AGAIN)
