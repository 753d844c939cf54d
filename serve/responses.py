"""How the API answers."""

from __future__ import annotations

from typing import Any

from fastapi.responses import Response

from helios.store.pool import dump_json


class Json(Response):
    """JSON as the store writes it: Decimal as text, NaN as null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return dump_json(content)
