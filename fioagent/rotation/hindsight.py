"""The history of a rotation whose new pair sota.toml names already, as far as that pair tells.

For rotations that another program has made, or of which the record is lost. The
gateway may have seen the pair in use, by any program of the device. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from fioagent.model import Facts, sha256_hex
from fioagent.rotation.machine import ATTEMPTS, TRANSITIONS, Kind, Phase, Record
from fioagent.x509 import Certificate


def until_commit(
    reached: Phase | None, certificate: Certificate, at: datetime, facts: Mapping[Phase, Facts]
) -> list[Record]:
    """Records after ``reached`` (None: all of them) up to the commit, which is next.

    ``facts`` go before what the certificate tells.
    """
    records = []
    phase = Phase.BEGUN if reached is None else TRANSITIONS[reached][0]
    known = {**_known_by(certificate), **facts}
    while phase is not Phase.COMMITTED:
        if phase in ATTEMPTS:
            records.append(Record(Kind.ATTEMPT, at, phase))
        records.append(Record(Kind.PHASE, at, phase, known[phase]))
        phase = TRANSITIONS[phase][0]
    return [*records, Record(Kind.ATTEMPT, at, Phase.CONFIRMED)]


def _known_by(certificate: Certificate) -> dict[Phase, Facts]:
    spki: Facts = {"spki_sha256": sha256_hex(certificate.spki_der)}
    return {
        Phase.KEY_GENERATED: spki,
        Phase.CERT_ISSUED: certificate.described(),
        Phase.LOCKED: spki,
        Phase.CONFIG_STAGED: {"config": "as it is"},
        Phase.DEVICE_CONFIG_UPDATED: {"device_config": "as it is"},
    }
