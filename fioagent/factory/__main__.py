"""``python -m fioagent.factory`` is fioagent-factory."""

from __future__ import annotations

import sys

from fioagent.factory.cli.main import main

sys.exit(main())
