"""A TPM's protection against guessing: its counters, asked with one command and no PIN.

TPM 2.0 part 3, section 30.2: TPM2_GetCapability. Over the kernel's device, or over TCP to
the one that swtpm plays, whichever TPM2_PKCS11_TCTI names, as for the PKCS#11 module.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

_DEVICE: Final = "/dev/tpmrm0"
_LIMIT_S: Final = 5.0
_CAP_PROPERTIES: Final = 6  # TPM_CAP_TPM_PROPERTIES, part 2 section 6.12
_PERMANENT: Final = 0x200  # TPM_PT_PERMANENT; bit 9 is inLockout, section 8.6
_COUNTER: Final = 0x20E  # TPM_PT_LOCKOUT_COUNTER and the three behind it
_MAX_TRIES: Final = 0x20F
_INTERVAL: Final = 0x210
_ANSWER: Final = 4096  # bytes


@dataclass(frozen=True, slots=True)
class Counters:
    """Of wrong PINs.

    Attributes:
        locked: the TPM takes no PIN now.
        used: wrong ones that it remembers.
        limit: as many lock it.
        interval_s: it forgets one of them after so long; 0: none.
    """

    locked: bool
    used: int
    limit: int
    interval_s: int

    @property
    def left(self) -> int:
        return max(self.limit - self.used, 0)

    @property
    def until(self) -> datetime | None:
        """When it takes a PIN again at the latest; None where time alone does not help."""
        if not self.locked or not self.interval_s:
            return None
        return datetime.now(timezone.utc) + timedelta(seconds=self.interval_s)

    @property
    def said(self) -> str:
        if self.locked:
            return "the TPM takes no PIN now"
        return f"the TPM takes {self.left} wrong PINs before it locks"


def is_behind(module: str) -> bool:
    """Whether ``module`` is tpm2-pkcs11, by its name."""
    return "tpm2_pkcs11" in os.path.basename(os.path.realpath(module))


def counters() -> Counters | None:
    """None where the TPM cannot be asked."""
    try:
        found = {**_properties(_PERMANENT, 1), **_properties(_COUNTER, 4)}
        locked = bool(found[_PERMANENT] >> 9 & 1)
        return Counters(locked, found[_COUNTER], found[_MAX_TRIES], found[_INTERVAL])
    except (OSError, ValueError, KeyError, struct.error):
        return None


def _properties(first: int, count: int) -> dict[int, int]:
    body = struct.pack(">HIIIII", 0x8001, 22, 0x17A, _CAP_PROPERTIES, first, count)
    answer = _exchanged(body)
    _, _, code, _, _, number = struct.unpack_from(">HIIBII", answer)
    if code:
        raise ValueError(f"TPM_RC {code:#x}")
    pairs = (struct.unpack_from(">II", answer, 19 + 8 * i) for i in range(number))
    return dict(pairs)


def _exchanged(command: bytes) -> bytes:
    kind, _, options = os.environ.get("TPM2_PKCS11_TCTI", f"device:{_DEVICE}").partition(":")
    if kind == "device":
        # Without a buffer: a command goes in whole, and its answer comes out whole.
        with open(options or _DEVICE, "r+b", buffering=0) as device:
            device.write(command)
            return device.read(_ANSWER) or b""
    if kind != "swtpm":
        raise ValueError(f"no way to a TPM by {kind!r}")
    named = dict(part.partition("=")[::2] for part in options.split(",") if part)
    address = (named.get("host", "localhost"), int(named.get("port", "2321")))
    with socket.create_connection(address, _LIMIT_S) as line:
        line.settimeout(_LIMIT_S)
        line.sendall(command)
        return line.recv(_ANSWER)
