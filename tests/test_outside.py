"""The result of a rotation as curl and openssl see it, with files from the device."""

from __future__ import annotations

import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fioagent import tls
from fioagent.http import Session
from tests.world import World


def curl(world: World, pair: tuple[Path, Path]) -> str:
    """The status of GET /config, as a technician would ask."""
    done = subprocess.run(
        [
            *("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}"),
            *("--cacert", str(world.storage / "root.crt")),
            *("--cert", str(pair[0]), "--key", str(pair[1]), f"{world.urls.gateway}/config"),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    return done.stdout


def s_client(world: World, pair: tuple[Path, Path], version: str) -> str:
    """The first line of the answer to a request through ``openssl s_client``."""
    address = urlsplit(world.urls.gateway)
    done = subprocess.run(
        [
            *("openssl", "s_client", "-quiet", "-verify_return_error", version),
            *("-connect", f"{address.hostname}:{address.port}", "-servername", "localhost"),
            *("-CAfile", str(world.storage / "root.crt")),
            *("-cert", str(pair[0]), "-key", str(pair[1])),
        ],
        input="GET /config HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    return done.stdout.splitlines()[0]


def test_curl_is_let_in_with_the_new_pair_and_refused_with_the_old(world: World) -> None:
    """Before the rotation the old pair is let in: the refusal is the rotation's doing."""
    assert curl(world, world.old_pair()) == "200"

    world.rotate()

    assert curl(world, world.live_pair()) == "200"
    assert curl(world, world.old_pair()) == "403"


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_is_let_in_with_the_new_pair_and_refused_with_the_old(
    world: World, version: str
) -> None:
    """In both versions of TLS that gateways speak."""
    assert s_client(world, world.old_pair(), version).startswith("HTTP/1.1 200")

    world.rotate()

    assert s_client(world, world.live_pair(), version).startswith("HTTP/1.1 200")
    assert s_client(world, world.old_pair(), version).startswith("HTTP/1.1 403")


def test_openssl_verifies_the_new_certificate(world: World) -> None:
    """To the root, through the CA that the EST server issues with, for client authentication."""
    world.rotate()

    done = subprocess.run(
        [
            *("openssl", "verify", "-purpose", "sslclient"),
            *("-CAfile", str(world.storage / "root.crt")),
            *("-untrusted", str(world.factory.paths.directory / "pki" / "online-crt")),
            str(world.live_pair()[0]),
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr


def test_the_environment_neither_widens_trust_nor_reroutes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQUESTS_CA_BUNDLE and HTTPS_PROXY belong to other programs."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent")
    monkeypatch.setenv("CURL_CA_BUNDLE", "/nonexistent")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")

    assert world.process("rotate", "--now").code == 0


def test_trust_is_the_trust_file_alone(world: World) -> None:
    """After a request the context holds the anchors of root.crt and no CA bundle of a library."""
    context = tls.client_context((world.storage / "root.crt").read_bytes())
    certificate, key = world.live_pair()
    context.load_cert_chain(certificate, key)
    session = Session(world.urls.gateway, context)

    assert session.request("GET", "/config").status == 200

    session.close()
    assert context.cert_store_stats()["x509"] == 1
