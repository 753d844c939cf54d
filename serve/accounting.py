"""Routes about the account: its days, money that came and went, where the profit came from."""

from __future__ import annotations

import uuid
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query

from helios.portfolio.attribution_report import Grouping
from serve.backend import Backend
from serve.responses import Json
from serve.schemas import MovementBody

_EPOCH = date(1970, 1, 1)


def add_accounting(router: APIRouter, backend: Backend) -> None:
    """Add the routes to a router whose calls are authenticated."""

    @router.get("/portfolio/daily")
    async def daily(days: Annotated[int, Query(ge=1, le=400)] = 30) -> Any:
        """The account by UTC days, oldest first: value, open positions, profit, return, drawdown, Sharpe ratio so far."""
        return Json({"days": await backend.daily(days)})

    @router.post("/portfolio/movements")
    async def movement(body: MovementBody) -> Any:
        """Book a deposit, a withdrawal or funding; it is no trade and, but for funding, no profit."""
        made = body.movement_id or f"api-{uuid.uuid4().hex}"
        return Json(await backend.command("move", made, body.kind, body.amount, body.symbol, body.currency, body.value))

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
