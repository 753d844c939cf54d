"""Routes about the desk's symbols: which are traded, and adding and removing them while it runs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from fastapi import Path as UrlPath

from serve.backend import Backend
from serve.responses import Json
from serve.schemas import SymbolBody


def add_universe(router: APIRouter, backend: Backend) -> None:
    """Add the routes to a router whose calls are authenticated."""

    @router.get("/symbols")
    async def symbols() -> Any:
        """Each symbol of the desk: why it is followed, whether anything new is opened in it, and its market; null where unknown."""
        return Json({"symbols": (await backend.snapshot()).get("symbols", [])})

    @router.post("/symbols")
    async def add(body: SymbolBody) -> Any:
        """Trade a symbol of the venue from now on, until the desk stops; it is decided upon once it has its history."""
        return Json(await backend.command("add_symbol", body.symbol))

    @router.delete("/symbols/{symbol:path}")
    async def remove(symbol: Annotated[str, UrlPath(min_length=1, max_length=40)]) -> Any:
        """Open nothing more in a symbol; what is held of it is watched until it is closed."""
        return Json(await backend.command("remove_symbol", symbol))
