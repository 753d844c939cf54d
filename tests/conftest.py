"""Where temporary files go."""

from __future__ import annotations

import gc
import hashlib
import os
import tempfile
from pathlib import Path

# Pytest closes the folder that all its sessions share to everybody but its owner each time one begins. Under root the embedded
# PostgreSQL runs as another user, who then stands before a shut door in the middle of a test of another checkout.
_checkout = hashlib.sha256(os.fsencode(Path(__file__).resolve().parent)).hexdigest()[:8]
_root = Path(tempfile.gettempdir()) / f"helios-{_checkout}"
_root.mkdir(exist_ok=True)
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_root))


def pytest_collection_finish() -> None:
    """Keep what thousands of tests have imported out of every full collection: walking it stops all sockets for half a second."""
    gc.collect()
    gc.freeze()
