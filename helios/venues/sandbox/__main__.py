"""`python -m helios.venues.sandbox`: the exchange alone, on a port."""

from __future__ import annotations

import sys

from helios.venues.sandbox.process import main

if __name__ == "__main__":
    sys.exit(main())
