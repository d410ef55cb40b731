"""Every row of the table through the command line: one plain line, nothing lost, a way on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tests.aftermath import check_open, check_over, told
from tests.est import (
    of_bodies,
    of_certificates,
    of_http,
    of_issuers,
    of_lines,
    of_questions,
    of_redirects,
    of_waiting,
)
from tests.est.scenario import GOOD, End, Scenario
from tests.est.server import EstServer, Lab
from tests.world import Ran, World

TABLE = [
    *of_lines.ALL,
    *of_http.ALL,
    *of_waiting.ALL,
    *of_redirects.ALL,
    *of_bodies.ALL,
    *of_certificates.ALL,
    *of_issuers.ALL,
    *of_questions.ALL,
]
QUICK = [row for row in TABLE if not row.slow]
SLOW = [row for row in TABLE if row.slow]
ENDLESS = [row for row in QUICK if "without an end" in row.name or "terabyte" in row.name]
_ID = "certs-1"
_PATIENCE_S = 170  # longer than any deadline of the client
_MOST_MEMORY = 64 * 1024 * 1024  # bytes of data; a rotation takes half of it
_MOST_SENT = 24 * 1024 * 1024  # bytes: what the client reads, and what the two kernels hold

Serve = Callable[[World, Scenario], EstServer]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts the server of a row."""
    started = []

    def start(world: World, row: Scenario) -> EstServer:
        server = EstServer(Lab(world.factory, tmp_path), row.script, row.host)
        running = server.serving()
        running.__enter__()
        started.append(running)
        return server

    yield start
    for running in started:
        running.__exit__(None, None, None)


def prepared(world: World, row: Scenario, server: EstServer) -> None:
    if row.settings:
        world.set_setting(row.settings)
    if row.device is not None:
        row.device(world, server.lab)


# A peer that resets while Python makes its SSLSocket: Python leaves that one to the collector.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("row", QUICK, ids=lambda row: row.name)
def test_whatever_the_server_does(world: World, serve: Serve, row: Scenario) -> None:
    """The end is the documented one, and nothing is lost by it."""
    server = serve(world, row)
    prepared(world, row, server)

    ran = world.rotate("--id", _ID, "--est-server", server.url)

    check_end(world, row, server, ran)
    if row.end is not End.COMPLETED:
        check_the_next_run_completes(world, row, server)


@pytest.mark.parametrize("row", ENDLESS, ids=lambda row: row.name)
def test_what_has_no_end_takes_no_memory(world: World, serve: Serve, row: Scenario) -> None:
    """In a process that may have no more than the resident service of a small device."""
    server = serve(world, row)

    ran = world.process(
        *("rotate", "--now", "--id", _ID, "--est-server", server.url),
        before=("prlimit", f"--data={_MOST_MEMORY}"),
    )

    check_end(world, row, server, ran)


def test_what_only_a_deadline_ends(new_world: Callable[[], World], serve: Serve) -> None:
    """Side by side, because each takes as long as the client's patience."""
    with ThreadPoolExecutor(len(SLOW)) as pool:
        runs = []
        for row in SLOW:
            world = new_world()
            server = serve(world, row)
            words = ("rotate", "--now", "--id", _ID, "--est-server", server.url)
            run = pool.submit(world.process, *words, limit_s=_PATIENCE_S)
            runs.append((world, row, server, run))

    for world, row, server, run in runs:
        check_end(world, row, server, run.result())
        check_the_next_run_completes(world, row, server)


def check_end(world: World, row: Scenario, server: EstServer, ran: Ran) -> None:
    assert server.sent < _MOST_SENT
    assert row.asked in (None, len(server.enrolments()))
    check_requests(server)
    if row.of_request is not None:
        row.of_request(server.enrolments()[-1])
    line = row.line.replace("{port}", str(server.port))
    if row.end is End.COMPLETED:
        assert ran.code == 0, ran.err
        assert line in ran.unfolded
        check_completed(world)
        return
    told(ran, row.end.value, line)
    if row.end is End.OVER:
        check_over(world)
    else:
        check_open(world, "key-generated", _ID)
        check_wait(world, row)


def check_requests(server: EstServer) -> None:
    """What every server of the field takes: RFC 7030 section 4.2.1, RFC 8951 section 3.

    An address is no name for SNI, RFC 6066 section 3.
    """
    assert server.names <= {server.host if server.host == "localhost" else None}
    for request in server.enrolments():
        assert request.headers["host"] == f"{server.host}:{server.port}"
        assert re.fullmatch(r"/\.well-known/est(/label)?/simplereenroll", request.target)
        assert request.headers["content-type"] == "application/pkcs10"
        assert request.headers["content-transfer-encoding"] == "base64"
        assert int(request.headers["content-length"]) == len(request.body)
        assert "transfer-encoding" not in request.headers
        assert "authorization" not in request.headers
        assert request.headers["accept-encoding"] == "identity"
        assert request.body.endswith(b"\n")
        assert max(map(len, request.body.splitlines())) <= 64
        assert request.certificates_sent == 1


def check_completed(world: World) -> None:
    assert world.live_pair()[0] != world.storage / "client.pem"
    world.check_reachable()
    world.check_nothing_left_behind()
    world.check_no_secret_outside()


def check_wait(world: World, row: Scenario) -> None:
    if row.waits_s is None:
        return
    ran = world.fioagent("rotate", "--json")
    assert ran.code == End.OPEN.value
    assert row.waits_s[0] <= seconds_until(ran.lines[-1]["next_at"]) <= row.waits_s[1]


def seconds_until(moment: str) -> float:
    return (datetime.fromisoformat(moment) - datetime.now(timezone.utc)).total_seconds()


def check_the_next_run_completes(world: World, row: Scenario, server: EstServer) -> None:
    """Against a server that is well; with the same request, where the rotation stayed open."""
    before = server.enrolments()
    server.script = GOOD

    ran = world.rotate("--est-server", server.url)

    assert ran.code == 0, ran.err
    check_completed(world)
    if row.end is End.OPEN:
        bodies = {request.body for request in server.enrolments()}
        assert len(bodies) == 1, len(before)
