"""Model cards without torch: what the command line and the desk's front show of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helios.config import ModelConfig
from helios.errors import ModelUnavailableError

PACKAGED = Path(__file__).parent / "models"
_SHOWN = ("version", "preset", "parameter_count", "trained_on", "phase", "beats_baselines", "verdict", "created")


def model_card(config: ModelConfig) -> dict[str, Any]:
    """Return the short card of the configured model.

    Raises
    ------
    ModelUnavailableError
        If the version is not in the registry or its card cannot be read.
    """
    roots = ([Path(config.registry_dir)] if config.registry_dir else []) + [PACKAGED]
    for root in roots:
        path = root / config.version / "card.json"
        if path.exists():
            try:
                card = json.loads(path.read_text())
            except (json.JSONDecodeError, OSError) as error:
                raise ModelUnavailableError(f"the card of model {config.version!r} cannot be read: {error}") from None
            return {name: card.get(name) for name in _SHOWN}
    known = sorted({p.parent.name for root in roots for p in root.glob("*/card.json")})
    raise ModelUnavailableError(f"no model version {config.version!r} (known: {', '.join(known) or 'none'})")
