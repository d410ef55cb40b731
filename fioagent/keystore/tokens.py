"""The token that sota.toml names, ready to be used; what has to be there for it."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Callable, Mapping

from fioagent import openssl
from fioagent.errors import ConfigError
from fioagent.keystore.object_ids import LABEL, PIN_CREDENTIAL
from fioagent.model import CredentialRef, ObjectIds
from fioagent.ports import KeyStore
from fioagent.sota import Sota


def opened(
    sota: Sota,
    environ: Mapping[str, str],
    live: Callable[[], CredentialRef],
    usual: ObjectIds,
) -> KeyStore:
    """The key store; the token itself is opened when it is first needed.

    Raises:
        ConfigError: a key is missing in sota.toml, or a library on the device.
    """
    try:
        from fioagent.keystore.token import Token  # noqa: PLC0415  # an optional dependency
        from fioagent.keystore.token_errors import Place  # noqa: PLC0415  # see above
        from fioagent.keystore.token_store import TokenKeyStore  # noqa: PLC0415  # see above
    except ImportError as error:
        raise ConfigError(
            f"cannot use keys in a token: {error.name} is not installed",
            hint="install the package fioagent-pkcs11, or fioagent[pkcs11] with pip",
        ) from error
    try:
        openssl.require_signers()
    except openssl.OpenSslError as error:
        raise ConfigError(
            f"cannot use keys in a token for TLS: {error}",
            hint="docs/tokens.md tells which Python and OpenSSL can",
        ) from error
    with contextlib.suppress(OSError, ValueError):  # the unit has it, and allows no change
        # A PIN in memory must not become one in a file.
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    place = Place(sota.require("p11.module"), sota.get("p11.label") or LABEL)
    return TokenKeyStore(Token(place, lambda: _pin(sota, environ)), live, usual)


def _pin(sota: Sota, environ: Mapping[str, str]) -> str:
    """The unit's credential where there is one, else as lmp-device-register leaves it."""
    directory = environ.get("CREDENTIALS_DIRECTORY")
    path = os.path.join(directory, PIN_CREDENTIAL) if directory else ""
    if path and os.path.exists(path):
        try:
            with open(path, encoding="utf-8") as file:
                return file.read().rstrip("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the credential {PIN_CREDENTIAL}: {error}") from None
    return sota.require("p11.pass")
