"""A recipe of the layer, as bitbake's own parser understands it.

    python -m tests.yocto.recipe RECIPE TOPDIR NAME=VALUE... [unpack]

prints the variables in JSON; with ``unpack`` it has put the sources that are files of this
repository where the build expects them. OpenEmbedded's part is the little that is in
``oe/``. bitbake changes the process that it is in, so this is one of its own.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final

# The wheel of bitbake has the parser without the servers of hashes, which no parser asks.
sys.modules["hashserv"] = sys.modules["hashserv.client"] = ModuleType("hashserv")

import bb.data  # noqa: E402  # see above
import bb.event  # noqa: E402  # see above
import bb.fetch2  # noqa: E402  # see above
import bb.parse  # noqa: E402  # see above
import bb.siggen  # noqa: E402  # see above
import bb.utils  # noqa: E402  # see above

OE: Final = Path(__file__).resolve().parent / "oe"
OF_PACKAGES: Final = ("FILES", "RDEPENDS", "RRECOMMENDS", "RPROVIDES", "RCONFLICTS", "RREPLACES")


def main(arguments: list[str]) -> int:
    recipe, top, *rest = arguments
    d = bb.data.init()
    bb.utils._context["os"] = os  # OpenEmbedded's BB_GLOBAL_PYMODULES
    bb.parse.siggen = bb.siggen.init(d)
    d.setVar("BBPATH", str(OE))
    d.setVar("TOPDIR", top)
    for name, _, value in (each.partition("=") for each in rest if "=" in each):
        d.setVar(name, value)
    d.setVar("__bbclasstype", "recipe")
    bb.parse.handle(str(OE / "conf" / "bitbake.conf"), d, include=True)
    d = bb.parse.handle(recipe, d)[""]
    if "unpack" in rest:
        unpack(d)
    print(json.dumps(told(d)))
    return 0


def unpack(d: Any) -> None:
    urls = [url for url in d.getVar("SRC_URI").split() if url.startswith("file:")]
    root = d.getVar("UNPACKDIR") or d.getVar("WORKDIR")
    os.makedirs(root, exist_ok=True)
    fetcher = bb.fetch2.Fetch(urls, d)
    fetcher.download()
    fetcher.unpack(root)


def told(d: Any) -> dict[str, Any]:
    names = [name for name in d if name.isupper() or name == "do_install"]
    plain = {name: d.getVar(name) for name in names if not name.startswith("BB_")}
    packages = d.getVar("PACKAGES").split()
    return {
        **{name: value for name, value in plain.items() if isinstance(value, str)},
        "PACKAGECONFIG_FLAGS": d.getVarFlags("PACKAGECONFIG") or {},
        "packages": {
            package: {name: (d.getVar(f"{name}:{package}") or "").split() for name in OF_PACKAGES}
            for package in packages
        },
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
