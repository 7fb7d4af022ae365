"""`python -m bert4k` is the same as `bert4k`."""

import sys

from bert4k.cli import main

if __name__ == "__main__":
    sys.exit(main())
