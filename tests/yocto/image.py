"""What the recipe puts on a device, without a build of it.

bitbake's parser reads the recipe and its unpacker lays the sources; the class that builds
and installs the wheel is played by what is here; ``do_install`` is the recipe's own.
"""

from __future__ import annotations

import configparser
import fnmatch
import json
import os
import py_compile
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.yocto.split import Split

TOP: Final = Path(__file__).resolve().parent.parent.parent
LAYER: Final = TOP / "packaging" / "yocto" / "meta-fioagent"
SCRIPT: Final = "import sys\nfrom {0} import {1}\nsys.exit({1}())\n"
RECIPE: Final = next((LAYER / "recipes-sota" / "fioagent").glob("fioagent_*.bb"))


@dataclass(frozen=True, slots=True)
class Image:
    """The recipe in one release.

    Attributes:
        told: what tests.yocto.recipe tells: variables, and those of packages.
        root: D, where everything is installed.
    """

    told: dict[str, Any]
    root: Path

    @classmethod
    def of(cls, release: str, place: Path, *settings: str) -> Image:
        """Parsed and unpacked; nothing is installed yet."""
        python = Split.of(release).python
        root = place / "image"
        names = [f"RELEASE={release}", f"PYTHON_BASEVERSION={python}", f"D={root}", *settings]
        return cls(parsed(RECIPE, place, *names, "unpack"), root)

    @property
    def sources(self) -> Path:
        return Path(self.told["S"])

    def install(self, wheel: Path) -> None:
        """What do_install of the class does with a wheel, then what the recipe adds."""
        site = self.root / self.told["PYTHON_SITEPACKAGES_DIR"].lstrip("/")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
            record = next(n for n in archive.namelist() if n.endswith("dist-info/RECORD"))
        entry_points = configparser.ConfigParser()
        entry_points.read(site / Path(record).parent / "entry_points.txt")
        (site / record).unlink()  # the class removes it as well
        for program, entry in entry_points["console_scripts"].items():
            module, _, function = entry.partition(":")
            script = self.root / "usr" / "bin" / program
            script.parent.mkdir(parents=True, exist_ok=True)
            script.write_text(f"#!/usr/bin/env python3\n{SCRIPT.format(module, function)}")
            script.chmod(0o755)
        for name in self.stock():
            self.sources.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
            self.sources.joinpath(name).write_text("SOTA_CLIENT=aktualizr-lite\n")
        subprocess.run(["sh", "-euc", self.told["do_install"]], check=True)

    def stock(self) -> list[str]:
        """The scripts that are fioconfig's; its sources are fetched from a network."""
        handlers = self.told["FIOAGENT_STOCK_HANDLERS"].split()
        actions = self.told["FIOAGENT_ACTIONS"].split()
        return [f"fioconfig/contrib/{name}" for name in handlers] + [
            f"fioconfig/contrib/actions/{name}" for name in actions
        ]

    def compile(self) -> None:
        """As pypa/installer does where times are fixed: bytecode that goes by content."""
        for path in self.root.rglob("*.py"):
            py_compile.compile(
                str(path), invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH
            )

    def packages(self) -> dict[str, list[str]]:
        """Installed files by package: the first of PACKAGES that names one has it."""
        files = sorted(
            "/" + str(path.relative_to(self.root))
            for path in self.root.rglob("*")
            if path.is_file()
        )
        found: dict[str, list[str]] = {}
        for name, values in self.told["packages"].items():
            mine = [file for file in files if has(file, values["FILES"])]
            files = [file for file in files if file not in mine]
            if mine:
                found[name] = mine
        if files:
            raise AssertionError(f"in no package: {files}")
        return found


def has(file: str, patterns: Iterable[str]) -> bool:
    """A pattern is that of a file, or of a directory above it."""
    parents = [file, *map(str, Path(file).parents)]
    return any(fnmatch.fnmatchcase(each, pattern) for pattern in patterns for each in parents)


def parsed(recipe: Path, place: Path, *settings: str) -> dict[str, Any]:
    """What bitbake understands of a recipe."""
    command = [sys.executable, "-m", "tests.yocto.recipe", str(recipe), str(place), *settings]
    environ = {**os.environ, "PYTHONPATH": str(TOP)}
    done = subprocess.run(command, cwd=TOP, env=environ, capture_output=True, check=False)
    if done.returncode != 0:
        raise AssertionError(done.stderr.decode())
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def wheel_of(sources: Path, place: Path) -> Path:
    """The wheel, built as the recipe's class builds it, but in an environment of its own."""
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(place), str(sources)]
    subprocess.run(command, check=True, capture_output=True)
    return next(place.glob("*.whl"))
