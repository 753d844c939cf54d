"""Routes about risk: the report, the breakers, where the profit came from."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query

from helios.portfolio.attribution_report import Grouping
from serve.backend import Backend
from serve.responses import Json
from serve.schemas import ResetBody

_EPOCH = date(1970, 1, 1)


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

    @router.get("/attribution")
    async def attribution(
        by: Annotated[Grouping, Query()] = "stage",
        since: Annotated[date | None, Query(description="First UTC day, YYYY-MM-DD.")] = None,
        until: Annotated[date | None, Query(description="Last UTC day.")] = None,
    ) -> Any:
        """Where the profit came from: by stage of the decision (signal, size, review, portfolio, cost), and against the benchmark.

        Every group's effects sum to its profit, to the last digit; money is text.
        """
        if since is not None and until is not None and since > until:
            raise HTTPException(422, "since is later than until")
        return Json(await backend.attribution(by, _day(since), _day(until)))


def _day(value: date | None) -> int | None:
    return None if value is None else (value - _EPOCH).days
