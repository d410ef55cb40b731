"""What the packages of the recipe weigh on a device, and what they bring with them.

Counted on this machine: our own files as the recipe installs them, with their bytecode; of
the standard library the files of this Python, by the split of each release. The compiled
parts differ from processor to processor, so those sizes are a measure and no promise.
"""

from __future__ import annotations

import sysconfig
import tempfile
from pathlib import Path
from typing import Final

from tests.yocto.image import Image, wheel_of
from tests.yocto.split import OTHERS, RELEASES, Split

KIB: Final = 1024
FACTORY: Final = "PACKAGECONFIG=pkcs11 factory"
# What an LmP image with fioconfig has of Python already: lmp-feature-jobserv.inc.
PRESENT: Final = ("python3-json", "python3-multiprocessing")


def main() -> None:
    for release in RELEASES:
        with tempfile.TemporaryDirectory(prefix="fioagent-size-") as place:
            image = Image.of(release, Path(place), FACTORY)
            image.install(wheel_of(image.sources, Path(place)))
            image.compile()
            own(release, image)
            added(Split.of(release), image)


def own(release: str, image: Image) -> None:
    print(f"{release}: our own files, KiB")
    print(f"{'package':<22}{'files':>7}{'source':>9}{'bytecode':>10}{'other':>7}{'all':>7}")
    for package, files in image.packages().items():
        sizes = {"source": 0, "bytecode": 0, "other": 0}
        for file in files:
            kind = {".py": "source", ".pyc": "bytecode"}.get(Path(file).suffix, "other")
            sizes[kind] += (image.root / file.lstrip("/")).stat().st_size
        columns = [f"{size / KIB:.0f}" for size in (*sizes.values(), sum(sizes.values()))]
        print(
            f"{package:<22}{len(files):>7}"
            + "".join(f"{c:>{w}}" for c, w in zip(columns, (9, 10, 7, 7), strict=True))
        )


def added(split: Split, image: Image) -> None:
    """Packages of others: what an image has to have, and what of it is new to LmP."""
    for package in ("fioagent", "fioagent-pkcs11", "fioagent-factory"):
        named = image.told["packages"][package]["RDEPENDS"]
        wanted = split.closure(name for name in named if name.startswith("python3-"))
        library = sorted(name for name in wanted if name not in OTHERS.values())
        new = sorted(set(library) - split.closure(PRESENT))
        others = sorted(set(wanted) & set(OTHERS.values()))
        total = sum(library_size(split, name) for name in library)
        fresh = sum(library_size(split, name) for name in new)
        print(f"{package} needs {', '.join(others)}")
        print(f"  {len(library)} packages of the standard library, {total / KIB:.0f} KiB here")
        print(f"  {len(new)} of them are in no LmP image yet, {fresh / KIB:.0f} KiB here:")
        print(f"  {' '.join(new) or '-'}")


def library_size(split: Split, package: str) -> int:
    """Bytes of a package's modules in this Python, source without bytecode."""
    places = [Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("platstdlib"))]
    places += [place / "lib-dynload" for place in places]
    found: set[Path] = set()
    for module in split.modules[package]:
        for place in dict.fromkeys(places):
            found |= set(place.glob(f"{module}.*")) | set((place / module).rglob("*.py"))
    return sum(path.stat().st_size for path in found if path.is_file())
