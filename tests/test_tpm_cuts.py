"""Power cuts of a device with a TPM, which loses what it has loaded, and counts a wrong PIN.

``test_debian13.py`` runs this beside a tpm2-pkcs11 that derives.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fioagent.factory import Factory, Urls
from fioagent.rotation.rotator import Result
from tests.power import PowerCutError, Switch
from tests.test_token_cuts import (
    POINTS_IN_A_CLEAN_RUN,
    check_as_after_boot,
    check_finished,
    rotate,
)
from tests.token_world import TokenWorld
from tests.tokens import tpm_derives, tpm_token

# What a cut after an effect leaves is what one before the next effect leaves; all points are cut
# with SoftHSM, in test_token_cuts.py.
BEFORE_EACH_EFFECT = range(1, POINTS_IN_A_CLEAN_RUN + 1, 2)


@pytest.fixture
def world(served: tuple[Factory, Urls], tmp_path: Path) -> Iterator[TokenWorld]:
    with tpm_token(tmp_path / "tpm") as token:
        made = TokenWorld(*served, tmp_path / "device", token)
        made.give_config()
        yield made


@pytest.mark.skipif(not tpm_derives(), reason="this tpm2-pkcs11 does not derive")
@pytest.mark.parametrize("cut", BEFORE_EACH_EFFECT)
def test_power_cut_of_device_and_tpm(world: TokenWorld, cut: int) -> None:
    """Wherever the power fails, the device boots with a pair that works, and finishes."""
    with pytest.raises(PowerCutError):
        rotate(world, Switch(cut), "certs-1")
    world.token.lose_power()

    check_as_after_boot(world)
    outcome = rotate(world, Switch(), "certs-1")

    assert outcome.result in (Result.COMPLETED, Result.NOTHING_TO_DO)
    check_finished(world, ("07", "09"))
