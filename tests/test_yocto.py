"""The Yocto layer, by bitbake's own parser; no build is needed, and none is replaced."""

from __future__ import annotations

import hashlib
import importlib.util
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import fioagent
from tests.yocto.image import LAYER, RECIPE, TOP, Image, parsed, wheel_of
from tests.yocto.split import RELEASES, Split

if importlib.util.find_spec("bb") is None:  # not imported: it changes the process that it is in
    pytest.skip("bitbake's parser is not installed: it is in dev", allow_module_level=True)

UNIT_KINDS = (".path", ".service")
KEYSTORE = TOP / "fioagent" / "keystore"
TOKENS = [KEYSTORE / "token.py", *sorted(KEYSTORE.glob("token_*.py"))]
FACTORY = sorted((TOP / "fioagent" / "factory").rglob("*.py"))
AGENT = sorted({*(TOP / "fioagent").rglob("*.py")} - {*TOKENS, *FACTORY})
CODE = {"fioagent": AGENT, "fioagent-pkcs11": TOKENS, "fioagent-factory": FACTORY}
FULL = "PACKAGECONFIG=pkcs11 vpn actions factory"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what the recipe unpacks, not from the checkout."""
    place = tmp_path_factory.mktemp("wheel")
    return wheel_of(Image.of("wrynose", place).sources, place)


@pytest.fixture(scope="module", params=RELEASES)
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return Image.of(request.param, tmp_path_factory.mktemp(request.param), FULL)


def test_the_recipe_is_of_this_version_and_licence(image: Image) -> None:
    """A release changes the recipe's name, a licence its digest."""
    assert fioagent.__version__ == image.told["PV"]
    digest = hashlib.md5((TOP / "LICENSE").read_bytes()).hexdigest()  # noqa: S324  # OE's
    assert f"file://LICENSE;md5={digest}" in image.told["LIC_FILES_CHKSUM"].split()


@pytest.mark.parametrize("package", CODE)
def test_dependencies_are_exactly_what_is_imported(image: Image, package: str) -> None:
    """A missing one breaks a device, a superfluous one makes every image larger.

    One recipe is for both releases, so a package may be there for the other's sake alone.
    """
    needed = {name for r in RELEASES for name in Split.of(r).packages(CODE[package])}
    declared = {n for n in image.told["packages"][package]["RDEPENDS"] if n.startswith("python3-")}
    assert needed == declared


def test_every_dependency_is_a_package_of_both_releases() -> None:
    """A name that OpenEmbedded does not have stops every image."""
    known = [set(Split.of(release).modules) for release in RELEASES]
    for files in CODE.values():
        for release in RELEASES:
            needed = Split.of(release).packages(files)
            library = {n for n in needed if any(n in names for names in known)}
            assert all(library <= names for names in known)


def test_the_wheel_of_the_unpacked_sources_is_the_wheel_of_the_checkout(
    wheel: Path, tmp_path: Path
) -> None:
    """The recipe names every source that the wheel is made of."""
    here = tmp_path / "checkout"
    here.mkdir()
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(TOP / name, here)
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(TOP / "fioagent", here / "fioagent", ignore=unwanted)

    with zipfile.ZipFile(wheel_of(here, tmp_path)) as ours, zipfile.ZipFile(wheel) as theirs:
        assert contents(ours) == contents(theirs)


def contents(archive: zipfile.ZipFile) -> dict[str, bytes]:
    return {name: archive.read(name) for name in archive.namelist()}


def test_every_file_of_the_wheel_is_installed_in_one_package(image: Image, wheel: Path) -> None:
    """And each package has its part: the agent has nothing of the lab, nor of fioconfig."""
    image.install(wheel)

    packages = image.packages()

    site = image.told["PYTHON_SITEPACKAGES_DIR"]
    with zipfile.ZipFile(wheel) as archive:
        names = {f"{site}/{n}" for n in archive.namelist() if not n.endswith("/RECORD")}
    installed = {file for files in packages.values() for file in files}
    assert names == {file for file in installed if file.startswith(site)}
    for package, files in CODE.items():
        ours = {f"{site}/{path.relative_to(TOP)}" for path in files}
        assert ours == {file for file in packages[package] if file.endswith(".py")}
    assert [f for f in packages["fioagent"] if not f.startswith(site)] == [
        "/etc/default/fioagent",
        "/usr/bin/fioagent",
        *sorted(
            f"/usr/lib/systemd/system/{path.name}"
            for path in (TOP / "packaging" / "systemd").iterdir()
            if path.suffix in UNIT_KINDS
        ),
        "/usr/lib/tmpfiles.d/fioagent.conf",
    ]
    handlers = "aktualizr-toml-update factory-config-vpn fioconfig-oneshot"
    assert packages["fioagent-fioconfig"] == [
        "/usr/bin/fioconfig",
        *(f"/usr/share/fioconfig/actions/{name}" for name in ("diag", "reboot")),
        *(
            f"/usr/share/fioconfig/handlers/{name}"
            for name in [*handlers.split(), "renew-client-cert", "renew-root-cert"]
        ),
    ]
    assert "/usr/bin/fioagent-factory" in packages["fioagent-factory"]


def test_every_unit_is_enabled() -> None:
    """What lies in packaging/systemd is what the recipe hands to systemd."""
    units = re.search(r'SYSTEMD_SERVICE:\$\{PN\} = "([^"]*)"', RECIPE.read_text())
    shipped = [p.name for p in (TOP / "packaging/systemd").iterdir() if p.suffix in UNIT_KINDS]
    assert units
    assert sorted(units[1].replace("\\", "").split()) == sorted(shipped)


def test_by_default_an_image_has_no_factory_and_may_have_tokens(
    tmp_path: Path, wheel: Path
) -> None:
    """Nor is anything built for it: a package that is not there needs nothing."""
    image = Image.of("scarthgap", tmp_path)

    image.install(wheel)

    packages = image.packages()
    assert set(packages) == {"fioagent", "fioagent-fioconfig", "fioagent-pkcs11"}
    assert not [f for files in packages.values() for f in files if "factory" in f]
    assert image.told["packages"]["fioagent"]["RRECOMMENDS"] == ["fioagent-pkcs11"]
    assert "fioagent-factory" not in image.told["packages"]


def test_it_takes_the_place_of_fioconfig_by_one_package(image: Image) -> None:
    """The others stay beside fioconfig: no file of theirs is fioconfig's, no name either."""
    packages = image.told["packages"]
    for name in ("RPROVIDES", "RREPLACES", "RCONFLICTS"):
        assert packages["fioagent-fioconfig"][name] == ["fioconfig"]
        assert not [p for p in packages if p != "fioagent-fioconfig" and packages[p][name]]
    assert packages["fioagent-fioconfig"]["RDEPENDS"] == ["fioagent"]


def test_another_client_is_the_one_that_is_restarted(tmp_path: Path, wheel: Path) -> None:
    """By the agent, by the handler, and it is in the image."""
    image = Image.of("wrynose", tmp_path, "SOTA_CLIENT=own-client")

    image.install(wheel)

    settings = image.root / "usr/lib/fioagent/10-image.toml"
    assert settings.read_text() == '[services]\nrestart = ["own-client.service"]\n'
    handler = image.root / "usr/share/fioconfig/handlers/aktualizr-toml-update"
    assert handler.read_text() == "SOTA_CLIENT=own-client\n"
    assert "own-client" in image.told["packages"]["fioagent"]["RDEPENDS"]
    assert "/usr/lib/fioagent/10-image.toml" in image.packages()["fioagent"]


def test_every_recipe_and_append_parses(tmp_path: Path) -> None:
    """On both releases; an append is parsed as it is joined to its recipe."""
    recipes = sorted(LAYER.rglob("*.bb"))
    assert len(recipes) >= 1
    for release in RELEASES:
        names = [f"RELEASE={release}", f"PYTHON_BASEVERSION={Split.of(release).python}", "D=/d"]
        for recipe in recipes:
            assert parsed(recipe, tmp_path, *names)["PN"] == recipe.name.rpartition("_")[0]
        for append in sorted(LAYER.rglob("*.bbappend")):
            joined = tmp_path / RECIPE.name
            joined.write_text(RECIPE.read_text() + append.read_text())
            told = parsed(joined, tmp_path, *names)
            assert "pkcs11" in told["PACKAGECONFIG"].split()
            assert "actions" in told["PACKAGECONFIG"].split()


def test_the_layer_says_which_releases_it_is_for() -> None:
    """Its data, its build files and its appends go by the same names."""
    text = (LAYER / "conf" / "layer.conf").read_text()
    compatible = re.search(r'LAYERSERIES_COMPAT_fioagent = "(.*)"', text)
    assert compatible
    assert tuple(compatible[1].split()) == RELEASES
    assert all((LAYER / "kas" / f"{release}.yml").is_file() for release in RELEASES)
    dynamic = sorted(path.name for path in (LAYER / "dynamic-layers").iterdir())
    assert dynamic == sorted(set(re.findall(r"(\S+):\$\{LAYERDIR\}/dynamic-layers/", text)))


def test_every_variable_that_an_image_may_set_is_documented() -> None:
    """VAR[doc], as bitbake-getvar and the layer index show it."""
    documented = re.findall(
        r"^(\w+)\[doc\]", (LAYER / "conf/fioagent-documentation.conf").read_text(), re.MULTILINE
    )
    own = set(re.findall(r"^(FIOAGENT_\w+) \?=", RECIPE.read_text(), re.MULTILINE))
    assert own | {"SOTA_CLIENT"} == set(documented)


def test_oelint_has_nothing_to_say() -> None:
    """The linter of recipes, with what .oelint.cfg gives a reason for."""
    program = Path(sys.executable).parent / "oelint-adv"
    if not program.exists():
        pytest.skip("oelint-adv is not installed: it is in the extra dev")
    files = [p for p in sorted(LAYER.rglob("*")) if p.suffix in (".bb", ".bbappend", ".conf")]
    done = subprocess.run(
        [str(program), "--quiet", *map(str, files)],
        cwd=LAYER,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_what_the_device_runs_of_the_layer_compiles() -> None:
    """The runtime case has OpenEmbedded's classes, which are not here; run-ptest is a shell's."""
    case = LAYER / "lib/oeqa/runtime/cases/fioagent.py"
    compile(case.read_text(), str(case), "exec")
    script = LAYER / "recipes-sota/fioagent/files/run-ptest"
    subprocess.run(["sh", "-n", str(script)], check=True)


@pytest.fixture
def device(tmp_path: Path, wheel: Path) -> Image:
    """What an image has by default, with its bytecode."""
    image = Image.of("wrynose", tmp_path / "device")
    image.install(wheel)
    image.compile()
    return image


def ptest(image: Image) -> set[str]:
    """What run-ptest says where nothing but these files is installed of ours."""
    python = image.root / "usr/bin/python3"
    # Without what a site does at a start: an editable install would find modules of ours.
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    site = image.root / image.told["PYTHON_SITEPACKAGES_DIR"].lstrip("/")
    others = sysconfig.get_path("purelib")
    environ = {
        "PATH": f"{python.parent}:/bin",
        "PYTHONPATH": f"{site}:{others}",
        "HOME": str(image.root),
    }
    script = str(LAYER / "recipes-sota/fioagent/files/run-ptest")
    return set(
        subprocess.run(
            [script], cwd=image.root, env=environ, capture_output=True, text=True, check=False
        ).stdout.splitlines()
    )


def test_ptest_passes_where_all_is_whole(device: Image) -> None:
    """The file that runs on a device, with the files of an image."""
    said = ptest(device)

    passed = {"version", "settings", "modules", "tokens", "bytecode"}
    assert {f"PASS: {name}" for name in passed} <= said
    assert "SKIP: rotation" in said


def test_ptest_finds_what_is_missing(device: Image) -> None:
    """A module that no package has brought; bytecode that an image would not use."""
    waiting = next(device.root.rglob("fioagent/waiting.py"))
    waiting.unlink()
    next(device.root.rglob("fioagent/__pycache__/waiting.*")).unlink()
    words = next(device.root.rglob("fioagent/words.py"))
    py_compile.compile(str(words), invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)

    said = ptest(device)

    assert {"FAIL: modules", "FAIL: bytecode"} <= said


def test_kas_names_layers_that_are_there() -> None:
    """No YAML reader is at hand: the lines that name files of this repository."""
    for file in (LAYER / "kas").iterdir():
        for name in re.findall(r"(packaging/yocto/[\w/.-]+?):?$", file.read_text(), re.MULTILINE):
            assert (TOP / name).exists(), f"{file.name}: {name}"
