"""What a PKCS#11 token says when it will not, and what a person can do: state by state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pkcs11 import ObjectClass
from pkcs11 import exceptions as refusals

from fioagent import causes
from fioagent.causes import Cause
from fioagent.errors import AgentError, ConfigError, TemporaryError
from fioagent.keystore import tpm


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
_CAUSES: Final[tuple[tuple[tuple[type[Exception], ...], Cause], ...]] = (
    ((refusals.PinIncorrect, refusals.PinInvalid, refusals.PinLenRange), causes.PIN_WRONG),
    ((refusals.PinLocked,), causes.PIN_LOCKED),
    ((refusals.NoSuchToken,), causes.NO_TOKEN),
)
_WORDS: Final[tuple[tuple[tuple[type[Exception], ...], type[AgentError], str, str], ...]] = (
    ((refusals.PinExpired,), ConfigError, "the PIN has expired", "set a new PIN"),
    (
        (refusals.UserPinNotInitialized,),
        ConfigError,
        "the token has no user PIN",
        "it was not set up to its end: register the device again",
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


def _told(cause: Cause, doing: str, place: Place) -> ConfigError:
    """With the time at which a TPM takes PINs again, where it tells."""
    facts = {"doing": doing, "place": place}
    if cause is causes.PIN_LOCKED and tpm.is_behind(place.module):
        counters = tpm.counters()
        if counters is not None and counters.until is not None:
            until = f"{counters.until:%Y-%m-%d %H:%M} UTC"
            return ConfigError.of(causes.TPM_LOCKED, {**facts, "until": until})
    return ConfigError.of(cause, facts)


def explained(error: Exception, doing: str, place: Place, *, changing: bool = False) -> AgentError:
    """In words for a person; ``changing`` where the token was to store or remove something."""
    if isinstance(error, MissingError):
        return ConfigError.of(causes.OBJECT_MISSING, {"place": place, "what": error})
    for kinds, cause in _CAUSES:
        if isinstance(error, kinds):
            return _told(cause, doing, place)
    for kinds, of, words, hint in _WORDS:
        if isinstance(error, kinds):
            return of(f"cannot {doing} {place}: {words}", hint=hint)
    # python-pkcs11 has no name for a module that cannot be loaded.
    if type(error) is refusals.PKCS11Error or not isinstance(error, refusals.PKCS11Error):
        return ConfigError.of(causes.MODULE, {"module": place.module})
    name = type(error).__name__
    if changing:
        # SoftHSM on a full disk says FunctionFailed, GeneralError or ObjectHandleInvalid.
        return TemporaryError(
            f"cannot {doing} {place}: the token did not do it ({name})",
            hint="is there room where its store is (SoftHSM: tokendir, TPM: TPM2_PKCS11_STORE)? "
            "the module's own log has more",
        )
    return TemporaryError(f"cannot {doing} {place}: {name}", hint="the module's own log has more")
