"""What docs/tokens.md tells of other programs and the token's key: its commands, as printed.

Debian has pkcs11-provider from 13 on; ``test_debian13.py`` runs this there.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from fioagent.factory import Factory, Urls
from fioagent.factory.fleet.hsm import CERTIFICATE_ID, KEY_ID, PIN
from tests.token_world import TokenWorld
from tests.tokens import soft_token, tpm_derives, tpm_token

TOP: Final = Path(__file__).resolve().parent.parent
PROVIDER: Final = any(Path("/usr/lib").glob("*/ossl-modules/pkcs11.so"))
FOR_SOFTHSM_ALONE: Final = "pkcs11-module-quirks = no-deinit\n"
# Plan B of ADR 9: two contexts, the second made while the first is in use.
PYTHON: Final = """\
import socket, ssl, sys

def line():
    context = ssl.create_default_context(cafile="root.crt")
    context.load_cert_chain("client.pem", "key.pem")
    made = context.wrap_socket(socket.create_connection(("localhost", int(sys.argv[1]))),
                               server_hostname="localhost")
    made.sendall(b"GET /config HTTP/1.0\\r\\n\\r\\n")
    return made, made.recv(12)

first, second = line(), line()
print(first[1].decode(), second[1].decode(), line()[1].decode(), sep="; ")
"""

pytestmark = pytest.mark.skipif(not PROVIDER, reason="there is no pkcs11-provider")


@pytest.fixture(params=["softhsm", "tpm"])
def world(
    request: pytest.FixtureRequest, served: tuple[Factory, Urls], tmp_path: Path
) -> Iterator[TokenWorld]:
    if request.param == "tpm" and not tpm_derives():
        pytest.skip("this tpm2-pkcs11 does not derive")
    place = tmp_path / "token"
    kind = tpm_token(place) if request.param == "tpm" else contextlib.nullcontext(soft_token(place))
    with kind as token:
        made = TokenWorld(*served, tmp_path / "device", token)
        made.factory.set_config(made.uuid, {"plain": b"there is something to answer"}, plain=True)
        yield made


def documented() -> str:
    """The section's commands, to be typed one after the other."""
    section = (TOP / "docs" / "tokens.md").read_text().partition("\n## Other programs\n")[2]
    return section.partition("```sh\n")[2].partition("```\n")[0]


def test_the_documented_commands_reach_the_gateway_with_the_key_in_the_token(
    world: TokenWorld, tmp_path: Path
) -> None:
    commands = documented()
    assert FOR_SOFTHSM_ALONE in commands
    if "tpm2" in world.token.module:
        commands = commands.replace(FOR_SOFTHSM_ALONE, "")
    place = tmp_path / "by-hand"
    place.mkdir()
    (place / "root.crt").write_bytes((world.storage / "root.crt").read_bytes())
    (place / "line.py").write_text(PYTHON)
    own = {"MODULE": world.token.module, "PIN": PIN, "GATEWAY": world.urls.gateway}
    ids = {"KEY": KEY_ID, "CERTIFICATE": CERTIFICATE_ID}
    python = f'"{sys.executable}" line.py {world.urls.gateway.rpartition(":")[2]}'

    done = subprocess.run(
        ["sh", "-eu", "-c", f"{commands}\n{python}"],
        env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", **world.token.env, **own, **ids},
        cwd=place,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert world.device.public_key.strip() in done.stdout
    assert "HTTP/1.1 200" in done.stdout
    assert done.stdout.endswith("HTTP/1.0 200; HTTP/1.0 200; HTTP/1.0 200\n")
    assert (place / "pin").stat().st_mode & 0o077 == 0
