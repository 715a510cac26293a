"""`python -m gacf`: the command `gacf`."""

import sys

from gacf.lab.cli import main

if __name__ == "__main__":
    sys.exit(main())
