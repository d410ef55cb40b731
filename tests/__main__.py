"""Sets up what this repository needs on a bare machine, then runs what was asked for.

    python3 -m tests demo           the demo: a factory, a device, a rotation, the proof;
                                    with --token softhsm of a key in a token
    python3 -m tests                every check that has to pass before a change lands
    python3 -m tests pytest ARG...  pytest alone, for work on the code
    python3 -m tests bench NAME...  what it costs, measured; all benchmarks without a name
    python3 -m tests crash ARG...   power cuts, kills and faults by the thousand; --help tells more
    python3 -m tests fuzz ARG...    damaged files and answers, for as long as wanted; the same
    python3 -m tests debian13 ARG...  a command in a fresh Debian 13, as tests/debian13.py tells

Standard library only, Python 3.10 or later: it runs before anything is
installed. Everything goes into ``.venv``; Debian packages are installed where
they are missing and the user is root.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
VENV = TOP / ".venv"
LONGEST_S = 45 * 60  # that one step of the check may take; none is near it
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
# What Yocto scarthgap ships: the oldest that the agent promises to work with.
OLDEST = ("cryptography==42.0.5", "requests==2.32.4", "urllib3==2.2.2", "idna==3.7")
# What takes minutes, and is the same with another Python. Machines that boot see no files in
# the memory of this one.
BOOTED = ("test_handlers_outside.py", "test_service.py", "test_systemd.py", "test_debian13.py")
CUTS = (
    *("test_power_cuts.py", "test_check_in_cuts.py", "test_superseding.py", "test_token_cuts.py"),
    "est/test_scenarios.py",
)
# Measures memory, of which the counting of coverage takes its own for each thread.
UNCOUNTED = "fuzz/test_fuzz.py"
UNSLOW = [f"--ignore={TOP / 'tests' / name}" for name in (*BOOTED, *CUTS)]
# What runs with one Python: the crash proof itself, a browser, inputs at random.
ONCE = ("test_crash_*.py", "unit/test_crash_*.py", "test_page.py", "fuzz/*.py")
MEMORY = Path("/dev/shm")  # noqa: S108  # each run makes a directory of its own in it
# Programs that the tests run, and the Debian packages that have each.
PROGRAMS = {
    "chromedriver": "chromium-driver",
    "chromium": "chromium",
    "curl": "curl",
    "dbus-daemon": "dbus",
    "flock": "util-linux",
    "mmdebstrap": "mmdebstrap",
    "mount": "mount",
    "openssl": "openssl",
    "pkcs11-tool": "opensc",
    "pki": "strongswan-pki libstrongswan-standard-plugins",
    "setpriv": "util-linux",
    "softhsm2-util": "softhsm2",
    "strace": "strace",
    "swtpm": "swtpm",
    "systemctl": "systemd",
    "systemd-nspawn": "systemd-container",
    "tpm2_flushcontext": "tpm2-tools",
}
# The same for libraries, below /usr/lib.
LIBRARIES = {
    "*/engines-3/pkcs11.so": "libengine-pkcs11-openssl",
    "*/libtss2-tcti-swtpm.so.0": "libtss2-tcti-swtpm0",
    "*/pkcs11/libtpm2_pkcs11.so": "libtpm2-pkcs11-1",
}
# What the demo needs of both, by its --token.
TOKENS = {
    "softhsm": (("pkcs11-tool", "softhsm2-util"), ()),
    "swtpm": (
        ("pkcs11-tool", "swtpm"),
        ("*/libtss2-tcti-swtpm.so.0", "*/pkcs11/libtpm2_pkcs11.so"),
    ),
}
# And parts of the check that run alone.
PARTS = {
    "crash": (
        ("strace", "softhsm2-util", "pkcs11-tool", "swtpm", "tpm2_flushcontext"),
        TOKENS["swtpm"][1],
    ),
    "debian13": (("mmdebstrap", "systemd-nspawn"), ()),
}
# The same, of what not every Debian has: 12 has no libest.
PROGRAMS_OF_SOME = {"estclient": "libest-utils"}


class CheckFailedError(Exception):
    """A check did not pass; its own output has told why."""


def main(arguments: Sequence[str]) -> int:
    os.chdir(TOP)
    try:
        match list(arguments):
            case ["demo", *rest]:
                kinds = [kind for kind in TOKENS if kind in " ".join(rest)]
                for kind in kinds:
                    need_programs(*TOKENS[kind])
                extras = "factory,pkcs11" if kinds else "factory"
                return in_environment(extras, ["fioagent.factory", "demo", *rest])
            case ["pytest", *rest]:
                return in_environment("factory,dev,pkcs11", ["pytest", *rest])
            case ["bench" | "crash" | "debian13" | "fuzz" as name, *rest]:
                need_programs(*PARTS.get(name, ((), ())))
                return in_environment("factory,dev,pkcs11", [f"tests.{name}", *rest])
            case []:
                return check_everything()
            case _:
                print(__doc__)
                return 2
    except CheckFailedError as error:
        print(f"\nFAILED: {error}")
        return 1


def in_environment(extras: str, module: Sequence[str]) -> int:
    """Exit status of ``python -m MODULE ARG...``."""
    return subprocess.call([prepared(VENV, sys.executable, extras), "-m", *module])


def check_everything() -> int:
    started = time.monotonic()
    need_programs()
    try_programs()
    python = prepared(VENV, sys.executable, "factory,dev,pkcs11")
    run("format", [python, "-m", "ruff", "format", "--check", "."])
    run("lint", [python, "-m", "ruff", "check", "."])
    run("types", [python, "-m", "mypy"])
    with tempfile.TemporaryDirectory(prefix="fioagent-check-") as scratch:
        wheel = built(python, Path(scratch))
        installed_wheel_runs_the_demo(wheel, Path(scratch))
        suites(python, wheel, Path(scratch))
    run("coverage", [python, "-m", "coverage", "combine", "--quiet"])
    run("coverage", [python, "-m", "coverage", "report"])
    run("power cuts, kills and faults", [python, "-m", "tests.crash"])
    print(f"\nall checks passed in {time.monotonic() - started:.0f} s")
    return 0


def need_programs(
    programs: Iterable[str] = tuple(PROGRAMS), libraries: Iterable[str] = tuple(LIBRARIES)
) -> None:
    missing = [PROGRAMS[program] for program in programs if not shutil.which(program)]
    missing += [LIBRARIES[each] for each in libraries if not any(Path("/usr/lib").glob(each))]
    if missing:
        install_packages(" ".join(missing).split())


def try_programs() -> None:
    """Those that this Debian has; loud about the others, whose tests are skipped."""
    for program, package in PROGRAMS_OF_SOME.items():
        if shutil.which(program):
            continue
        is_known = shutil.which("apt-cache") and subprocess.run(
            ["apt-cache", "show", package], capture_output=True, check=False
        )
        if is_known and is_known.returncode == 0 and os.geteuid() == 0:
            install_packages([package])
        else:
            print(f"== NOT TRIED: {program}; this system has no package {package}", flush=True)


def install_packages(packages: Iterable[str]) -> None:
    wanted = sorted(set(packages))
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise CheckFailedError(f"install {' '.join(wanted)} first, or run this as root on Debian")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "-q", "update"],
        ["apt-get", "-q", "install", "-y", "--no-install-recommends", *wanted],
    ):
        run(" ".join(command[:3]), command, environment)


def prepared(place: Path, interpreter: str, extras: str, pins: Sequence[str] = ()) -> str:
    """A virtual environment with this package and ``extras`` in it; its interpreter."""
    python = str(place / "bin" / "python")
    wanted = [(TOP / "pyproject.toml").read_text(), interpreter, extras, *pins]
    fingerprint = hashlib.sha256("\n".join(wanted).encode()).hexdigest()
    stamp = place / "fioagent-setup"
    if stamp.is_file() and stamp.read_text().split() == [fingerprint]:
        return python
    create_environment(place, interpreter)
    pip(python, "-e", f".[{extras}]", *pins)
    stamp.write_text(fingerprint)
    return python


def create_environment(place: Path, interpreter: str) -> None:
    if (place / "bin" / "python").exists():
        return
    if interpreter == sys.executable and importlib.util.find_spec("ensurepip") is None:
        install_packages(["python3-venv"])
    run(f"virtual environment {place.name}", [interpreter, "-m", "venv", str(place)])


def pip(python: str, *wanted: str) -> None:
    quiet = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(f"install {' '.join(wanted)}", [python, *quiet, *wanted])


def suites(python: str, wheel: Path, scratch: Path) -> None:
    """The whole suite in three parts, and the first of them with others; three at a time.

    Machines that boot leave a processor to others for most of their time.
    """
    here, counting = sys.version.split()[0], [python, "-m", "coverage", "run"]
    booted, cuts = ([str(TOP / "tests" / name) for name in names] for names in (BOOTED, CUTS))
    quick = [*UNSLOW, f"--ignore={TOP / 'tests' / UNCOUNTED}"]
    jobs: list[tuple[str, Callable[[], tuple[int, str]]]] = [
        (f"Python {here}", partial(suite, counting, quick)),
        (f"machines that boot, Python {here}", partial(suite, counting, booted, in_memory=False)),
        (f"cuts and answers, Python {here}", partial(suite, counting, cuts)),
        *((each[0], partial(elsewhere, *each, wheel, scratch)) for each in legs()),
    ]
    failed = []
    with ThreadPoolExecutor(3) as pool:
        for (name, _), ended in zip(jobs, [pool.submit(job) for _, job in jobs], strict=True):
            code, output = ended.result()
            print(f"== tests, {name}\n{output}", flush=True)
            failed += [name] if code != 0 else []
    if failed:
        raise CheckFailedError(", ".join(failed))


def suite(
    interpreter: Sequence[str], what: Sequence[str], *, in_memory: bool = True
) -> tuple[int, str]:
    """Exit status and output of pytest, with its files in memory where it can."""
    command = [*interpreter, "-m", "pytest", "-q", "--durations=15", "-p", "no:cacheprovider"]
    memory = MEMORY if in_memory and MEMORY.is_dir() else None
    if in_memory:
        command = [*alone(), *command]
    with tempfile.TemporaryDirectory(prefix="fioagent-check-", dir=memory) as files:
        try:
            ended = subprocess.run(
                [*command, f"--basetemp={files}/tests", *what],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=LONGEST_S,
            )
        except subprocess.TimeoutExpired as late:
            said = bytes(late.stdout or b"").decode(errors="replace")
            return 1, f"{said}\nnot at an end after {LONGEST_S // 60} min"
    return ended.returncode, ended.stdout


def built(python: str, scratch: Path) -> Path:
    """The wheel; the sdist is built beside it."""
    target = scratch / "dist"
    run("wheel and sdist", [python, "-m", "build", "--outdir", str(target), "."])
    wheels, sdists = list(target.glob("*.whl")), list(target.glob("*.tar.gz"))
    if len(wheels) != 1 or len(sdists) != 1:
        raise CheckFailedError(f"the build left {wheels} and {sdists}")
    return wheels[0]


def installed_wheel_runs_the_demo(wheel: Path, scratch: Path) -> None:
    place = scratch / "venv-wheel"
    create_environment(place, sys.executable)
    pip(str(place / "bin" / "python"), f"{wheel}[factory]")
    # From another directory, so that nothing of the checkout is imported.
    run("demo of the wheel", [str(place / "bin" / "fioagent-factory"), "demo"], cwd=scratch)


def legs() -> list[tuple[str, str, Sequence[str]]]:
    """Another Python where one is at hand, and the oldest dependencies."""
    others = other_interpreters()
    found: list[tuple[str, str, Sequence[str]]] = []
    if others:
        newest = max(others, key=VERSIONS.index)
        found.append((f"Python {newest}", others[newest], ()))
    else:
        print("no other Python at hand: the suite has run on this one alone")
    oldest = min(others, key=VERSIONS.index) if others else None
    interpreter = others[oldest] if oldest else sys.executable
    name = f"oldest dependencies on Python {oldest or '.'.join(map(str, sys.version_info[:2]))}"
    found.append((name, interpreter, OLDEST))
    return found


def other_interpreters() -> dict[str, str]:
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    found = {}
    for version in VERSIONS:
        if version == own:
            continue
        kept = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
        candidates = [shutil.which(f"python{version}"), *map(str, kept)]
        usable = next((each for each in candidates if each and is_usable(each)), None)
        if usable:
            found[version] = usable
    return found


def is_usable(interpreter: str) -> bool:
    probe = [interpreter, "-c", "import ensurepip, ssl, sqlite3, venv"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def alone() -> list[str]:
    """What starts a program so that nobody's processes are seen but its own, where that can be."""
    starter = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    probe = subprocess.run([*starter, "true"], capture_output=True, check=False)
    return starter if probe.returncode == 0 else []


def elsewhere(
    name: str, interpreter: str, pins: Sequence[str], wheel: Path, scratch: Path
) -> tuple[int, str]:
    """The suite in brief with another Python, or other dependencies, but for what is slow."""
    place = scratch / f"venv-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    create_environment(place, interpreter)
    python = str(place / "bin" / "python")
    pip(python, f"{wheel}[factory,pkcs11]", "pytest", "hypothesis", *pins)
    once = [f"--ignore-glob={TOP / 'tests' / pattern}" for pattern in ONCE]
    return suite([python], [*UNSLOW, *once, "--brief"])


def run(
    name: str,
    command: Sequence[str],
    environment: dict[str, str] | None = None,
    cwd: Path = TOP,
) -> None:
    print(f"== {name}", flush=True)
    try:
        ended = subprocess.run(command, env=environment, cwd=cwd, check=False, timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        raise CheckFailedError(f"{name}: not at an end after {LONGEST_S // 60} min") from None
    if ended.returncode != 0:
        raise CheckFailedError(name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
