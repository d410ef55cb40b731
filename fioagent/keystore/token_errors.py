"""What a PKCS#11 token says when it will not, and what a person can do: state by state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pkcs11 import ObjectClass
from pkcs11 import exceptions as refusals

from fioagent.errors import AgentError, ConfigError, TemporaryError


@dataclass(frozen=True, slots=True)
class Place:
    """Which token.

    Attributes:
        module: path of the PKCS#11 module.
        label: of the token.
    """

    module: str
    label: str

    def __str__(self) -> str:
        return f"the token {self.label!r} of {self.module}"


class MissingError(Exception):
    """None, or more than one, of what there has to be one of."""

    def __init__(self, count: int, kind: ObjectClass, identifier: bytes) -> None:
        name = kind.name.lower().replace("_", " ")
        said = f"no {name}" if count == 0 else f"more than one {name}"
        super().__init__(f"{said} with the id {identifier.hex()}")


AGAIN: Final = (
    refusals.SessionHandleInvalid,
    refusals.SessionClosed,
    refusals.ObjectHandleInvalid,
    refusals.KeyHandleInvalid,
    refusals.DeviceRemoved,
    refusals.DeviceError,
    refusals.GeneralError,
    refusals.FunctionFailed,
    refusals.UserNotLoggedIn,
    MissingError,
)
PIN_REFUSALS: Final = (
    refusals.PinIncorrect,
    refusals.PinInvalid,
    refusals.PinLenRange,
    refusals.PinExpired,
    refusals.PinLocked,
)


# What a token or its module says, and what a person can do: state by state.
_WORDS: Final[tuple[tuple[tuple[type[Exception], ...], type[AgentError], str, str], ...]] = (
    (
        (refusals.PinIncorrect, refusals.PinInvalid, refusals.PinLenRange),
        ConfigError,
        "the PIN is wrong",
        "p11.pass of sota.toml has to be the token's user PIN; it is not tried again by itself",
    ),
    (
        (refusals.PinLocked,),
        ConfigError,
        "the PIN is locked",
        "unlock the token with its SO PIN, or clear a TPM's dictionary lockout",
    ),
    ((refusals.PinExpired,), ConfigError, "the PIN has expired", "set a new PIN"),
    (
        (refusals.UserPinNotInitialized,),
        ConfigError,
        "the token has no user PIN",
        "it was not set up to its end: register the device again",
    ),
    (
        (refusals.NoSuchToken,),
        ConfigError,
        "there is no such token",
        "is its store there (SoftHSM: tokendir, TPM: TPM2_PKCS11_STORE)? Wiped: register again",
    ),
    (
        (refusals.TokenNotPresent, refusals.TokenNotRecognised, refusals.DeviceRemoved),
        TemporaryError,
        "it is not there",
        "is the device plugged in, and its driver or tee-supplicant running?",
    ),
    (
        (refusals.DeviceMemory,),
        ConfigError,
        "it is full",
        "list its objects with pkcs11-tool -O and remove what nobody needs",
    ),
    (
        (refusals.MechanismInvalid, refusals.FunctionNotSupported),
        ConfigError,
        "the token cannot do that",
        "a TPM needs tpm2-pkcs11 1.9.1 or later to decrypt the device's configuration",
    ),
)


def explained(error: Exception, doing: str, place: Place, *, changing: bool = False) -> AgentError:
    """In words for a person; ``changing`` where the token was to store or remove something."""
    if isinstance(error, MissingError):
        return ConfigError(
            f"cannot use {place}: {error} is in it",
            hint="'pkcs11-tool -O' lists what is there; [p11] of sota.toml names what is used",
        )
    for kinds, of, words, hint in _WORDS:
        if isinstance(error, kinds):
            return of(f"cannot {doing} {place}: {words}", hint=hint)
    # python-pkcs11 has no name for a module that cannot be loaded.
    if type(error) is refusals.PKCS11Error or not isinstance(error, refusals.PKCS11Error):
        return ConfigError(
            f"cannot load the PKCS#11 module {place.module}",
            hint="p11.module of sota.toml has to name it; is its package installed?",
        )
    name = type(error).__name__
    if changing:
        # SoftHSM on a full disk says FunctionFailed, GeneralError or ObjectHandleInvalid.
        return TemporaryError(
            f"cannot {doing} {place}: the token did not do it ({name})",
            hint="is there room where its store is (SoftHSM: tokendir, TPM: TPM2_PKCS11_STORE)? "
            "the module's own log has more",
        )
    return TemporaryError(f"cannot {doing} {place}: {name}", hint="the module's own log has more")
