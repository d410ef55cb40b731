"""Handlers of configuration files: which, when, with what, for how long, and outside of what."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fioagent import agent
from fioagent.config import extractor
from fioagent.config.extraction import Value
from fioagent.config.household import Handlers as Rules
from fioagent.config.household import Household
from fioagent.confined import ConfinedFiles
from tests.handlers import TOP, Handlers
from tests.processes import has_ended
from tests.test_check_in import changed_ago, told
from tests.test_extract import extracted
from tests.world import World


def configure(world: World, name: str, content: str, handler: str | None = None) -> None:
    """Plain, in the device's layer; a change that is newer than what was fetched."""
    world.factory.set_config(world.uuid, {name: content.encode()}, plain=True, on_changed=handler)


@pytest.fixture
def handlers(bare: World) -> Handlers:
    return Handlers(bare)


def test_a_handler_has_the_environment_of_fioconfigs(handlers: Handlers) -> None:
    """Stock handlers need no more, and no less."""
    world = handlers.world
    script = 'echo "$CONFIG_FILE|$STORAGE_DIR|$SOTA_DIR|$FIOCONFIG_BIN"\necho out; echo err >&2\n'
    configure(world, "dir/app", "1", handlers.add("show", script))

    ran = world.fioagent("check-in", environ={"FIOCONFIG_BIN": "/usr/bin/fioconfig"})

    secrets = world.device.env["SECRETS_DIR"]
    shown = f"| {secrets}/dir/app|{world.storage}|{world.sota_toml}|/usr/bin/fioconfig\n"
    assert shown in ran.err
    assert "| out\n| err\n" in ran.err
    assert ran.code == 0


def test_it_runs_after_a_change_and_only_then(handlers: Handlers) -> None:
    """Also for a file that is removed, by what was said of it before; then there is none."""
    world, note = handlers.world, handlers.noting()
    configure(world, "a", "1", note)
    configure(world, "b", "1", note)
    changed_ago(world, 300)
    told(world)
    configure(world, "b", "2", note)
    changed_ago(world, 200)
    told(world)
    world.factory.remove_config(world.uuid, "a")
    told(world)
    told(world)

    assert handlers.told() == ["a there", "b there", "b there", "a gone"]


def test_a_program_from_elsewhere_is_not_run(handlers: Handlers) -> None:
    """Nor one that only looks as if it were there; it is told, and the file is there."""
    world = handlers.world
    elsewhere = world.device.directory / "evil"
    elsewhere.write_text(f"#!/bin/sh\ntouch {world.device.directory}/done\n")
    elsewhere.chmod(0o755)
    named = [
        str(elsewhere),
        f"{handlers.directory}/../evil",
        f"{handlers.directory}-not/evil",
        "evil",
        str(handlers.directory),
    ]
    for number, name in enumerate(named):
        configure(world, f"f{number}", "1", name)

    ran = world.fioagent("check-in")

    assert ran.code == 0
    assert ran.err.count("is not run: it is not below") == len(named)
    assert not (world.device.directory / "done").exists()
    assert len(extracted(world)) == len(named)


@pytest.mark.parametrize("how", ["option", "variable"])
def test_it_is_where_the_operator_allows_it(handlers: Handlers, how: str) -> None:
    """--unsafe-handlers, UNSAFE_CALLBACKS."""
    world = handlers.world
    elsewhere = world.device.directory / "anywhere"
    elsewhere.write_text(f"#!/bin/sh\ntouch {world.device.directory}/done\n")
    elsewhere.chmod(0o755)
    configure(world, "a", "1", str(elsewhere))

    if how == "option":
        world.fioagent("--unsafe-handlers", "check-in")
    else:
        world.fioagent("check-in", environ={"UNSAFE_CALLBACKS": "1"})

    assert (world.device.directory / "done").exists()


def test_a_variable_that_is_neither_true_nor_false_is_refused(handlers: Handlers) -> None:
    """Nothing that loosens a rule is guessed."""
    ran = handlers.world.fioagent("check-in", environ={"UNSAFE_CALLBACKS": "yes please"})

    assert (ran.code, "cannot use UNSAFE_CALLBACKS" in ran.err) == (78, True)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 3\n", "ended with status 3"),
        ("kill -KILL $$\n", "ended with status 137"),
        (None, "cannot start"),
    ],
)
def test_one_that_fails_holds_nothing_up(handlers: Handlers, script: str | None, said: str) -> None:
    """It is told; the others run, and the configuration is stored."""
    world = handlers.world
    broken = str(handlers.directory / "absent")
    if script is not None:
        broken = handlers.add("broken", script)
    configure(world, "a", "1", broken)
    configure(world, "b", "1", handlers.noting())

    ran = world.fioagent("check-in", "--json")

    assert (ran.code, ran.lines[0]["result"]) == (0, "stored")
    assert said in ran.err
    assert handlers.told() == ["b there"]


def test_status_123_is_passed_on(handlers: Handlers) -> None:
    """The others have run, the configuration is stored, and it does not run again by itself."""
    world = handlers.world
    configure(world, "a", "1", handlers.add("gives-up", "exit 123\n"))
    configure(world, "b", "1", handlers.noting())

    assert told(world, code=123)["result"] == "stored"

    assert handlers.told() == ["b there"]
    assert told(world)["result"] == "unchanged"


def test_one_that_hangs_is_ended_with_all_that_it_has_started(bare: World) -> None:
    """At its limit, and whether they want to or not; the others run."""
    handlers = Handlers(bare, timeout_s=1)
    pid = handlers.place("pid")
    stubborn = f"sh -c \"trap '' TERM; exec sleep 600\" &\necho $! > {pid}\nwait\n"
    hangs = handlers.add("hangs", stubborn)
    configure(bare, "a", "1", hangs)
    configure(bare, "b", "1", handlers.noting())

    ran = bare.fioagent("check-in")

    assert f"cannot wait for {hangs}: it ran longer than 1 s" in ran.err
    assert has_ended(int(pid.read_text()))
    assert handlers.told() == ["b there"]


@pytest.mark.parametrize(("offline", "limit_s"), [(True, 60.0), (False, 300.0)])
def test_at_boot_it_has_a_minute_at_most(handlers: Handlers, offline: bool, limit_s: float) -> None:
    """What comes after waits for it."""
    world, limits = handlers.world, []

    class Timed:
        """``config.ports.Programs`` that run at once."""

        def run(self, *_: object, limit_s: float | None, **__: object) -> int:
            limits.append(limit_s)
            return 0

    with agent.opened([], world.device.env) as opened:
        rules = Rules(
            str(handlers.directory), unsafe=False, limit_s=300.0, own_program="", passed_on={}
        )
        files = ConfinedFiles(world.device.env["SECRETS_DIR"])
        household = Household(opened.device, files, Timed(), rules, "/", lambda _: None)
        wanted = [Value("a", b"1", (handlers.noting(),))]
        opened.device.disk.make_directory(opened.device.site.state_directory)
        extractor.apply(household, wanted, (), offline=offline)

    assert limits == [limit_s]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 75), (signal.SIGTERM, 143), (signal.SIGALRM, 142)]
)
def test_one_that_is_interrupted_is_ended(
    handlers: Handlers, number: signal.Signals, code: int
) -> None:
    """Control-C, a stop of the service, or its limit; it has a process group of its own."""
    pid = handlers.place("pid")
    script = f"echo $$ > {pid}\necho waiting\nsleep 600\n"
    configure(handlers.world, "a", "1", handlers.add("waits", script))

    with handlers.world.started("check-in") as process:
        told_of = process.stderr
        assert told_of is not None
        while "| waiting" not in told_of.readline():
            assert process.poll() is None
        process.send_signal(number)
        assert process.wait(60) == code

    assert has_ended(int(pid.read_text()))


@pytest.fixture
def left_running() -> Iterator[list[int]]:
    pids: list[int] = []
    yield pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def test_one_that_leaves_something_running_is_not_waited_for(
    handlers: Handlers, left_running: list[int]
) -> None:
    """A service in the background holds the output open for ever."""
    pid = handlers.place("pid")
    script = f"sleep 600 &\necho $! > {pid}\necho started\n"
    configure(handlers.world, "a", "1", handlers.add("starts", script))

    ran = handlers.world.fioagent("check-in")

    left_running.append(int(pid.read_text()))
    assert "| started\n" in ran.err
    assert not has_ended(left_running[0], within_s=0)


def test_what_it_leaves_running_may_talk_for_ever(
    handlers: Handlers, left_running: list[int]
) -> None:
    """More than we can read; once the handler has ended, no more of it is heard."""
    pid = handlers.place("pid")
    talks = f"yes & echo $! >> {pid}\n"
    configure(handlers.world, "a", "1", handlers.add("talks", talks * 8 + "sleep 1\n"))
    try:
        ran = handlers.world.fioagent("check-in")
    finally:
        left_running.extend(map(int, pid.read_text().split()))

    assert "more lines)" in ran.err
    assert "ran longer" not in ran.err


def test_much_output_is_cut(handlers: Handlers) -> None:
    """A flood neither fills memory nor the journal, and hides no status."""
    script = "yes | head -n 100000\nhead -c 300000 /dev/zero\nexit 4\n"
    configure(handlers.world, "a", "1", handlers.add("floods", script))

    ran = handlers.world.fioagent("check-in")

    assert "more lines)" in ran.err
    assert "ended with status 4" in ran.err
    assert len(ran.err) < 100_000


def test_the_last_words_are_heard(handlers: Handlers) -> None:
    """All that it has written, though it has ended long before we look."""
    script = (
        "us=$PPID; me=$$\nkill -STOP $us\n"
        "yes 12345678901234567890123456789012345678901234567890 | head -n 400\necho end\n"
        "{ until grep -q 'State:.Z' /proc/$me/status; do :; done; kill -CONT $us; }"
        " > /dev/null 2>&1 &\n"
    )
    configure(handlers.world, "a", "1", handlers.add("brief", script))

    ran = handlers.world.process("check-in")

    assert ran.err.endswith("| end\n")
    assert ran.err.count("| 1234567890") == 400


@pytest.mark.parametrize("when", ["while it runs", "before the next"])
def test_each_is_started_once_whoever_dies(handlers: Handlers, when: str) -> None:
    """One that restarts or kills the service does not do so for ever; the ones after it run."""
    world = handlers.world
    kills = handlers.add("kills", f"echo killed >> {handlers.place('kills')}\nkill -KILL $PPID\n")
    configure(world, "a", "1", kills if when == "while it runs" else handlers.noting("first"))
    configure(world, "b", "1", kills if when != "while it runs" else handlers.noting("second"))
    configure(world, "c", "1", handlers.noting("third"))

    first = world.process("check-in")
    second = world.process("check-in", "--json")

    assert first.code == -signal.SIGKILL
    assert second.code == 0, second.err
    assert second.lines[0]["result"] == "stored"
    assert handlers.told("kills") == ["killed"]
    assert handlers.told("third") == ["c there"]
    assert handlers.told("first") + handlers.told("second") != []


def test_what_extract_leaves_due_is_run_by_a_check_in(handlers: Handlers) -> None:
    """Even where nothing has changed since: no handler is lost."""
    world = handlers.world
    configure(world, "a", "1", handlers.add("kills", "kill -KILL $PPID\n"))
    configure(world, "b", "1", handlers.noting())
    world.fetch_config()

    assert world.process("extract").code == -signal.SIGKILL
    assert handlers.told() == []
    told(world)

    assert handlers.told() == ["b there"]


def test_arguments_of_a_handler_reach_it(handlers: Handlers) -> None:
    """OnChanged is a program and its arguments."""
    world = handlers.world
    show = handlers.add("show", 'echo "$# $1 $2"\n')
    configure(world, "a", "1", show)
    with world.factory.store.write() as db:
        db.execute(
            "UPDATE config_files SET entry = json_set(entry, '$.OnChanged[1]', 'x y',"
            " '$.OnChanged[2]', '*') WHERE owner = ?",
            (world.uuid,),
        )

    assert "| 2 x y *\n" in world.fioagent("check-in").err


# --- ours ---


def test_our_renew_client_cert_says_what_it_has_seen() -> None:
    """The rotation is the service's; nothing is begun, replaced or forgotten here."""
    ours = TOP / "packaging" / "handlers" / "renew-client-cert"

    def says(path: str) -> str:
        environ = {**os.environ, "CONFIG_FILE": path, "FIOCONFIG_BIN": "/bin/false"}
        done = subprocess.run([ours], env=environ, capture_output=True, text=True, check=True)
        return done.stdout

    assert says(__file__) == "rotation requested; fioagent rotates after this check-in\n"
    assert says("/nowhere") == "the request to rotate is withdrawn\n"


def test_a_rotation_by_the_stock_handler(handlers: Handlers) -> None:
    """It greps the trigger and calls renew-cert of whoever has called it; 123 where that fails."""
    world = handlers.world
    stock = handlers.add(
        "renew-client-cert",
        '[ -f "$CONFIG_FILE" ] || exit 1\n'
        "id=$(grep ROTATIONID $CONFIG_FILE | cut -d= -f2)\n"
        "est=$(grep ESTSERVER $CONFIG_FILE | cut -d= -f2)\n"
        'if grep -q "\\"RotationId\\":\\"$id\\"," "$STORAGE_DIR/cert-rotation.state.completed"; '
        "then exit 0; fi\n"
        "$FIOCONFIG_BIN renew-cert --pkcs11-key-ids=01,07 --pkcs11-cert-ids=03,09 $est $id"
        " || exit 123\n",
    )
    text = f"ESTSERVER={world.urls.est}\nPKEYIDS=01,07\nCERTIDS=03,09\nROTATIONID=certs-7\n"
    configure(world, "fio-rotate-certs", text, stock)
    program = {"FIOCONFIG_BIN": handlers.program()}

    ran = world.fioagent("check-in", environ=program)

    assert ran.code == 0, ran.err
    assert "| gateway accepted serial" in ran.err
    assert world.live_pair()[1].name == "pkey.certs-7.pem"
    assert world.fioagent("check-in", environ=program).code == 0
    assert world.journal_names() == ["ended-000001-certs-7.journal"]
    assert world.event_names()[-1] == ("CertRotationCompleted", True)


def test_the_program_that_handlers_call_is_a_file() -> None:
    """Also where Python was started with the module's name."""
    program = "from fioagent.configurator import own_program; print(own_program({}))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=TOP
    )
    assert Path(done.stdout.strip()).name == "fioagent"
    assert Path(done.stdout.strip()).is_absolute()
