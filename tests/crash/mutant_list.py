"""All mutants."""

from __future__ import annotations

from typing import Final

from tests.crash.mutant import Mutant
from tests.crash.mutants_of_files import FILES
from tests.crash.mutants_of_order import ORDER
from tests.crash.mutants_of_rules import RULES
from tests.crash.mutants_of_tokens import TOKENS

MUTANTS: Final[tuple[Mutant, ...]] = (*FILES, *ORDER, *RULES, *TOKENS)
