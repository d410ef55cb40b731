"""A share of what layer 2 of the crash proof has of a TPM, as a test.

``test_debian13.py`` runs this beside a tpm2-pkcs11 that derives; tests/debian13.py tells how
to run all of it.
"""

from __future__ import annotations

import pytest

from tests.crash import kills
from tests.crash.kill_scenarios import TPM
from tests.tokens import tpm_derives


@pytest.mark.skipif(not tpm_derives(), reason="this tpm2-pkcs11 does not derive")
def test_a_kill_while_a_tpm_is_in_use_strands_nobody() -> None:
    """Whether the TPM stays on, with what the dead process has left in it, or loses its power."""
    rows = kills.run(full=False, jobs=1, store=TPM)

    assert [line for row in rows for line in row.failures] == []
    assert [row.scenario for row in rows] == [
        "first rotation in a TPM, killed",
        "second rotation in a TPM, killed",
    ]
    assert all(row.rotated == row.points > 0 for row in rows)
