"""Routes about risk: the report and the breakers."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from serve.backend import Backend
from serve.responses import Json
from serve.schemas import ResetBody


def add_risk(router: APIRouter, backend: Backend) -> None:
    """Add the routes to a router whose calls are authenticated."""

    @router.get("/risk")
    async def risk() -> Any:
        """Breakers, use of every limit, VaR and CVaR, ratios, exposures, and the volatility forecast of every symbol.

        Fractions are of equity; null where too little is known yet.
        """
        snapshot = await backend.snapshot()
        return Json({name: snapshot.get(name) for name in ("currency", "trading_state", "trips", "risk", "volatility")})

    @router.post("/risk/reset")
    async def reset(body: ResetBody | None = None) -> Any:
        """Release what has tripped and no longer holds; a drawdown then counts from the present equity."""
        code = (body or ResetBody()).code
        return Json(await backend.command("reset_breakers", *([code] if code else [])))
