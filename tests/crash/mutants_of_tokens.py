"""Mutants of keys in a token."""

from __future__ import annotations

from typing import Final

from tests.crash.mutant import Mutant

_RULES: Final = "tests/test_token_rules.py"
_TOKENS: Final = "tests/test_tokens.py"

TOKENS: Final = (
    Mutant(
        "token-leftovers-kept",
        "half a pair that a cut has left makes room for a whole one",
        "keystore/token_store.py",
        "            self._remove(KEY_CLASSES, identifier)\n",
        "",
        ("1",),
    ),
    Mutant(
        "token-announced-key-replaced",
        "a key that the gateway may wait for stays",
        "keystore/token_store.py",
        "        if not announced:\n",
        "        if True:\n",
        ("1",),
    ),
    Mutant(
        "token-old-pair-kept",
        "exactly one credential is left",
        "keystore/token_store.py",
        "        self.destroy(old)\n",
        "        del old\n",
        ("1",),
    ),
    Mutant(
        "token-trouble-taken-for-damage",
        "a configuration that the token would not open is not given up for lost",
        "rotation/steps.py",
        "    except MalformedError:\n        return None",
        "    except Exception:\n        return None",
        ("4",),
    ),
    Mutant(
        "token-live-pair-removed",
        "what sota.toml names is never removed",
        "keystore/token_store.py",
        "        if not object_ids.same(credential.key, live.key):\n",
        "        if live:\n",
        (_TOKENS,),
    ),
    Mutant(
        "token-handles-of-generation",
        "objects are looked for again, after the module was initialised anew",
        "keystore/token.py",
        '            self._run(act, "make a key in", twice=False)\n            self.reset()\n',
        '            self._run(act, "make a key in", twice=False)\n',
        (_RULES,),
    ),
    Mutant(
        "token-pin-again",
        "a PIN that was refused is not tried again",
        "keystore/token.py",
        "                if isinstance(error, PIN_REFUSALS):\n",
        "                if False:\n",
        (_RULES,),
    ),
)
