"""How near a token is to refusing every PIN, asked without a PIN.

By the token's flags (PKCS #11 section 3.2); of a TPM by its own counters, because
tpm2-pkcs11 sets none of them.
"""

from __future__ import annotations

from typing import Final

import pkcs11
from pkcs11 import TokenFlag
from pkcs11 import exceptions as refusals

from fioagent.doctor.ports import Tries
from fioagent.keystore import tpm
from fioagent.keystore.token_errors import Place, explained

_NEAR: Final = TokenFlag.USER_PIN_COUNT_LOW


def of(module: str, label: str) -> Tries | None:
    """None where the token does not tell.

    Raises:
        ConfigError: the module or the token cannot be used.
    """
    place = Place(module, label)
    try:
        token = pkcs11.lib(module).get_token(token_label=label)
        flags = token.flags
    except (refusals.PKCS11Error, RuntimeError, OSError) as error:
        raise explained(error, "look at", place) from error
    if tpm.is_behind(module):
        counters = tpm.counters()
        if counters is not None:
            return Tries(counters.locked, counters.left <= 1, counters.said)
    locked = bool(flags & TokenFlag.USER_PIN_LOCKED)
    last = bool(flags & TokenFlag.USER_PIN_FINAL_TRY)
    if locked:
        return Tries(locked=True, last=True, said="its PIN is locked")
    near = "a wrong PIN was tried" if flags & _NEAR else "no wrong PIN was tried"
    return Tries(locked=False, last=last, said=near)
