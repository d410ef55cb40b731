"""``python -m fioagent`` is the command ``fioagent``."""

import sys

from fioagent.cli import main

if __name__ == "__main__":
    sys.exit(main())
