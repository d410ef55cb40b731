"""A Debian 13 root, made anew, and what runs in it: the checkout as it stands, at /src.

    python3 -m tests debian13 COMMAND...   one command in one; as root, with mmdebstrap and
                                           systemd-nspawn

The whole of what the crash proof has of a TPM, for example, is
``python3 -m tests debian13 python3 -m tests.crash --layer 2 --store TPM --full``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

TOP: Final = Path(__file__).resolve().parent.parent
PACKAGES: Final = (
    *("python3-cryptography", "python3-requests", "python3-flask", "python3-cheroot"),
    *("python3-pkcs11", "python3-pytest", "python3-hypothesis", "opensc", "softhsm2"),
    *("swtpm", "libtpm2-pkcs11-1", "libtss2-tcti-swtpm0t64", "tpm2-tools", "strace"),
    *("libest-utils", "strongswan-pki", "libstrongswan-standard-plugins", "curl", "openssl"),
    "pkcs11-provider",
)
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


def make(place: Path) -> None:
    """The root; ``place`` is not there yet."""
    command = ["mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join(PACKAGES)}"]
    subprocess.run([*command, "trixie", str(place)], check=True)


def inside(root: Path, command: Sequence[str], environ: Mapping[str, str] = _NOTHING) -> list[str]:
    """What runs a command there: without a network, and with a /tmp in memory."""
    given = {"PYTHONPATH": "/src", "PYTHONDONTWRITEBYTECODE": "1", **environ}
    return [
        *("systemd-nspawn", "--quiet", f"--directory={root}", f"--bind-ro={TOP}:/src"),
        *("--private-network", "--register=no", "--keep-unit", "--tmpfs=/tmp", "--pipe"),
        *(f"--setenv={name}={value}" for name, value in given.items()),
        *command,
    ]


def main(command: Sequence[str]) -> int:
    """Its exit status."""
    if not command:
        print(__doc__)
        return 2
    with tempfile.TemporaryDirectory(prefix="fioagent-debian13-") as place:
        root = Path(place) / "root"
        make(root)
        return subprocess.call(inside(root, command), env={**os.environ, "TERM": "dumb"})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
