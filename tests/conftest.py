"""Where temporary files go."""

from __future__ import annotations

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
