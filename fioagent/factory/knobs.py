"""Everything about the factory that a test or a person may turn.

Each open question about the real cloud is a knob here, and so is each fault that a lab
wants to see. A knob holds from the next request on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fioagent.factory.errors import FactoryError

MAX_DIGITS: Final = 6  # of a number: so many days from now there still are dates


class KnobError(FactoryError):
    """There is no such knob, or it has no such value."""


@dataclass(frozen=True, slots=True)
class Knob:
    """``values`` is None for a whole number from 0 up, of ``MAX_DIGITS`` at most."""

    default: str
    values: tuple[str, ...] | None
    meaning: str


def _choice(values: str, meaning: str) -> Knob:
    """The first value is the default."""
    choices = tuple(values.split())
    return Knob(choices[0], choices, meaning)


KNOBS: Final = {
    # --- open questions: what the cloud does is not public ---
    "patch_device": _choice("on 405", "PATCH /device (the lock); the public gateways answer 405"),
    "config_device": _choice("on 404", "GET /config-device; the public gateways answer 404"),
    "get_device": _choice("on 404", "GET /device; unknown whether the cloud has it"),
    "old_key": _choice("403 401 502 drop", "answer to a key that was replaced"),
    "unannounced_key": _choice(
        "502 403 accept",
        "answer to a new key that was not announced; accept: it becomes the device's key",
    ),
    "second_lock": _choice("409 replace", "PATCH /device with another key while locked"),
    "operator_write_locked": _choice("409 accept", "operator's config write while locked"),
    "foreign_public_key": _choice(
        "409 accept", "device's PATCH /config with a public-key that is not the awaited one"
    ),
    "lock_lifetime_s": Knob("0", None, "seconds until a lock lapses; 0: never"),
    "rate_limit_per_minute": Knob(
        "0", None, "requests a device may make in a minute, then 429 with Retry-After; 0: any"
    ),
    "config_while_locked": _choice(
        "new old", "GET /config while locked: device values as patched, or as before"
    ),
    "expired_clients": _choice(
        "refuse accept", "gateway and EST server: a client certificate that has expired"
    ),
    "est_success": _choice(
        "200 201", "enrolment: 200 as RFC 7030 has it, or 201 and the framing of estserver"
    ),
    "est_body": _choice(
        "folded one-line", "base64 of an answer 200: libest wants a newline, strongSwan 5.9.8 none"
    ),
    "est_ca": _choice(
        "online-ca local-ca foreign-ca", "CA that issues; the gateway distrusts foreign-ca"
    ),
    "est_validity_days": Knob("1095", None, "life of an issued certificate, cut to the CA's"),
    "est_drop_san": _choice("off on", "leave the subject alternative name out, as estserver does"),
    "sign_registers": _choice(
        "on off", "POST /sign: with a token for the operator API, or without; then names may repeat"
    ),
    # --- faults of the EST server ---
    "est_issue": _choice(
        "normal other-key no-client-auth expired not-yet-valid same-cert other-subject empty",
        "what is wrong with the issued certificate",
    ),
    "est_answer": _choice(
        "normal 202 403 500 503 garbage html", "answer to an enrolment instead of the certificate"
    ),
    "est_retry_after_s": Knob("1", None, "Retry-After of est_answer 202 and 503; 0: no header"),
    "est_tls": _choice(
        "normal foreign-ca wrong-host", "TLS certificate of the EST server, for new connections"
    ),
    # --- faults of the gateway ---
    "gateway_answer": _choice("normal 500 503 garbage drop", "answer to every gateway request"),
    "gateway_patch_config": _choice(
        "on 500 drop-after", "PATCH /config; drop-after: change it, then close without an answer"
    ),
    "patch_device_lose_answer": _choice("off on", "PATCH /device: lock, close without an answer"),
    "switch_lose_answer": _choice("off on", "first use of the new key: switch, close, no answer"),
}


def check(name: str, value: str) -> None:
    """Nothing, or why ``name`` cannot be ``value``.

    Raises:
        KnobError: with the values there are.
    """
    knob = KNOBS.get(name)
    if knob is None:
        raise KnobError(f"cannot set {name}: there is no such knob; there are {', '.join(KNOBS)}")
    if knob.values is None:
        if not (value.isascii() and value.isdigit() and len(value) <= MAX_DIGITS):
            raise KnobError(
                f"cannot set {name} to {value[:20]!r}: it takes a whole number from 0 to"
                f" {10**MAX_DIGITS - 1}"
            )
    elif value not in knob.values:
        raise KnobError(f"cannot set {name} to {value[:20]!r}: it takes {', '.join(knob.values)}")
