"""Which package of OpenEmbedded brings what a module of ours imports.

The standard library is split there; ``split-RELEASE.json`` says how: the packages of
python3-manifest.json in its order, with the modules that their ``files`` name and without
summaries, bytecode and what is no module. ``source`` and ``commit`` tell where it is from.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
RELEASES: Final = ("scarthgap", "wrynose")
# In the interpreter itself: no file, no package.
BUILT_IN: Final = {"_signal", "errno", "itertools", "sys", "time"}
OTHERS: Final = {
    "cheroot": "python3-cheroot",
    "cryptography": "python3-cryptography",
    "flask": "python3-flask",
    "pkcs11": "python3-pkcs11",
    "requests": "python3-requests",
    "werkzeug": "python3-werkzeug",
}
# The branch that no device runs: what checks types reads, and what an older Python would.
UNSEEN: Final = {"TYPE_CHECKING": "body", "sys.version_info >= (3, 11)": "orelse"}


@dataclass(frozen=True, slots=True)
class Split:
    """The standard library of one release.

    Attributes:
        python: version, as ``"3.12"``.
        modules: by package, in the order in which files are given to packages.
        needs: the packages that a package needs, by its name.
    """

    python: str
    modules: dict[str, set[str]]
    needs: dict[str, list[str]]

    @classmethod
    def of(cls, release: str) -> Split:
        told = json.loads((HERE / f"split-{release}.json").read_text())
        packages = {f"python3-{name}": value for name, value in told["packages"].items()}
        return cls(
            told["python"],
            {name: set(value["modules"]) for name, value in packages.items()},
            {name: [f"python3-{n}" for n in value["rdepends"]] for name, value in packages.items()},
        )

    def package(self, module: str) -> str | None:
        """The one that brings a module; none where the interpreter does.

        Raises:
            KeyError: nothing does.
        """
        top = module.partition(".")[0]
        if top in OTHERS:
            return OTHERS[top]
        for name, modules in self.modules.items():
            if top in modules:  # whoever names a directory gets all that is in it
                return name
        if top in BUILT_IN:
            return None
        raise KeyError(module)

    def packages(self, files: Iterable[Path]) -> set[str]:
        """What these modules need; an interpreter in any case."""
        found = {self.package(name) for path in files for name in imports(path)}
        return {"python3-core"} | {name for name in found if name}

    def closure(self, packages: Iterable[str]) -> set[str]:
        """These, and what of the standard library they need themselves."""
        found: set[str] = set()
        ahead = list(packages)
        while ahead:
            name = ahead.pop()
            if name not in found:
                found.add(name)
                ahead += self.needs.get(name, [])
        return found


def imports(path: Path) -> set[str]:
    """What a module imports of others, wherever in it the import stands."""
    found = set()
    for node in seen(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name for name in found if name.partition(".")[0] != "fioagent"}


def seen(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree, but for the branches of UNSEEN."""
    yield node
    unseen = UNSEEN.get(ast.unparse(node.test)) if isinstance(node, ast.If) else None
    for name, value in ast.iter_fields(node):
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, ast.AST) and name != unseen:
                yield from seen(each)
