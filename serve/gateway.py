"""Gateway: REST, live stream and dashboard as one Serve deployment.

Supervisor dead: 503 with one line, and `down` on the stream. Database away: 503 on the questions it answers, the rest works.
Replica killed: Serve starts another; dashboards reconnect by themselves.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, WebSocket
from fastapi import Path as UrlPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, Response
from fastapi.security import HTTPBearer
from ray import serve

from helios import __version__
from helios.domain.enums import Action, Timeframe
from helios.errors import DataError, HeliosError, RejectedError, RetryableError, SkipError
from serve.accounting import add_accounting
from serve.backend import Backend, RayBackend
from serve.responses import Json
from serve.risk import add_risk
from serve.schemas import EmergencyBody, ModeBody, PredictBody
from serve.security import Security, SecurityMiddleware
from serve.stream import Hub
from serve.universe import add_universe

DASHBOARD = Path(__file__).parent / "dashboard"
STATIC = {
    "app.js": "text/javascript",
    "style.css": "text/css",
    "icon.svg": "image/svg+xml",
}
PORTFOLIO = (
    "currency", "equity", "cash", "peak_equity", "day_start_equity", "realised_pnl", "unrealised_pnl", "fees", "drawdown",
    "daily_loss", "closed_trades", "winning_trades", "entries_today", "consecutive_losses", "performance",
)  # fmt: skip
Limit = Annotated[int, Query(ge=1, le=500)]
log = logging.getLogger("helios.gateway")


def build_api(
    backend: Backend, security: Security, dashboard_dir: Path = DASHBOARD, push_interval_s: float = 0.5, hub: Hub | None = None
) -> FastAPI:
    """Return the application over any backend; needs no Ray.

    Parameters
    ----------
    backend : Backend
    security : Security
    dashboard_dir : Path
        Folder of the dashboard's files.
    push_interval_s : float
        Between two frames of the live stream.
    hub : Hub, optional
        The live stream, where the default does not do.
    """
    stream = hub or Hub(backend, security, push_interval_s)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await stream.aclose()
        await backend.aclose()

    api = FastAPI(title="Helios", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    api.add_middleware(SecurityMiddleware, security=security)
    _add_errors(api)
    _add_pages(api, dashboard_dir)
    # The middleware checks the token before anything else; this only states it in the OpenAPI document.
    protected = APIRouter(prefix="/api/v1", dependencies=[Depends(HTTPBearer(auto_error=False))], default_response_class=Json)
    _add_questions(protected, backend)
    _add_market(protected, backend)
    _add_history(protected, backend)
    _add_predict(protected, backend)
    add_risk(protected, backend)
    add_accounting(protected, backend)
    add_universe(protected, backend)
    _add_commands(protected, backend)
    api.include_router(protected)

    @api.websocket("/api/v1/stream")
    async def live(socket: WebSocket) -> None:
        await stream.serve(socket)

    return api


def _add_errors(api: FastAPI) -> None:
    @api.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return Json({"detail": "; ".join(_problem(e) for e in error.errors()[:5])}, 422)

    @api.exception_handler(HeliosError)
    async def refused(_: Request, error: HeliosError) -> Response:
        status = 409 if isinstance(error, RejectedError) else 503 if isinstance(error, RetryableError | SkipError) else 500
        return Json({"detail": str(error)}, status)

    @api.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        log.error("%s failed", request.url.path, exc_info=error)
        return Json({"detail": "internal error; see the log of the gateway"}, 500)


def _problem(error: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"] if part != "body")
    return f"{where}: {error['msg']}" if where else str(error["msg"])


def _add_pages(api: FastAPI, folder: Path) -> None:
    fresh = {"cache-control": "no-cache"}

    @api.get("/health", response_class=Json)
    async def health() -> dict[str, str]:
        """Say that the gateway runs; nothing about the desk."""
        return {"status": "healthy", "version": __version__}

    @api.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(folder / "index.html", media_type="text/html", headers=fresh)

    @api.get("/static/{name}", include_in_schema=False)
    async def static(name: str) -> FileResponse:
        if name not in STATIC:
            raise HTTPException(404, "no such file")
        return FileResponse(folder / name, media_type=STATIC[name], headers=fresh)


def _add_questions(router: APIRouter, backend: Backend) -> None:
    @router.get("/status")
    async def status() -> Any:
        """Everything the desk says about itself, without the equity history."""
        return _json({k: v for k, v in (await backend.snapshot()).items() if k != "equity_history"})

    @router.get("/positions")
    async def positions() -> Any:
        """What is held, marked to market; `is_dust` where it is too little for any order that the venue takes."""
        return _json({"positions": (await backend.snapshot()).get("positions", [])})

    @router.get("/predictions")
    async def predictions() -> Any:
        """The newest prediction of each symbol."""
        return _json({"predictions": (await backend.snapshot()).get("predictions", [])})

    @router.get("/portfolio")
    async def portfolio() -> Any:
        """Equity, cash, profit, drawdown (a positive fraction), the whole record, the equity curve, weights; null where unknown."""
        snapshot = await backend.snapshot()
        rest = {"equity_history": snapshot.get("equity_history", []), "allocation": snapshot.get("allocation")}
        return _json({k: snapshot.get(k) for k in PORTFOLIO} | rest)


def _add_market(router: APIRouter, backend: Backend) -> None:
    @router.get("/market/tickers")
    async def tickers() -> Any:
        """Each symbol's last price, best bid and ask, freshness, and how its data come in; null where unknown."""
        snapshot = await backend.snapshot()
        return _json({name: snapshot.get(name, []) for name in ("market_time_ns", "symbols", "feeds")})

    @router.get("/market/candles")
    async def candles(
        symbol: Annotated[str, Query(min_length=1, max_length=40)],
        timeframe: Annotated[Timeframe, Query()] = Timeframe.M1,
        limit: Limit = 50,
    ) -> Any:
        """The newest closed candles of a symbol, oldest first; `open_time` in ns UTC, null where unknown."""
        rows = await backend.candles(symbol, timeframe, limit)
        return _json({"symbol": symbol, "timeframe": timeframe.value, "candles": rows})


def _add_history(router: APIRouter, backend: Backend) -> None:
    @router.get("/orders")
    async def orders(limit: Limit = 50) -> Any:
        """The newest orders of the ledger."""
        return _json({"orders": await backend.orders(limit)})

    @router.get("/fills")
    async def fills(limit: Limit = 50) -> Any:
        """The newest fills of the ledger."""
        return _json({"fills": await backend.fills(limit)})

    @router.get("/events")
    async def events(limit: Limit = 50) -> Any:
        """The newest engine events: state changes, alerts, faults."""
        return _json({"events": await backend.events(limit)})

    @router.get("/decisions")
    async def decisions(
        limit: Limit = 50,
        symbol: Annotated[str | None, Query(max_length=40)] = None,
        cursor: Annotated[str | None, Query(max_length=120)] = None,
    ) -> Any:
        """Decisions, newest first; `next_cursor` of one answer continues in the next call."""
        rows = await backend.decisions(limit, symbol, None if cursor is None else decode_cursor(cursor))
        last = rows[-1] if len(rows) == limit else None
        next_cursor = None if last is None else encode_cursor(last["bar_time_ns"], last["symbol"])
        return _json({"decisions": rows, "next_cursor": next_cursor})

    @router.get("/decisions/{decision_id}")
    async def explain(decision_id: Annotated[str, UrlPath(min_length=4, max_length=64)]) -> Any:
        """What every tier said about one decision; a unique beginning of its id is enough."""
        try:
            return _json(await backend.explain(decision_id))
        except RejectedError as error:
            raise HTTPException(404, str(error)) from None


def _add_predict(router: APIRouter, backend: Backend) -> None:
    @router.post("/predict")
    async def predict(body: PredictBody) -> Any:
        """Classify up to 64 feature windows with the desk's model. Places no order."""
        try:
            values = body.values()
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        answer = await backend.predict(values)
        rows = zip(answer["probabilities"].tolist(), answer["attention"].tolist(), strict=True)
        version = answer["model_version"]
        return _json({"model_version": version, "predictions": [_prediction(p, a, version) for p, a in rows]})


def _prediction(probabilities: list[float], attention: list[float], version: str) -> dict[str, Any]:
    confidence = max(probabilities)
    return {
        "action": Action(probabilities.index(confidence)).name,
        "confidence": confidence,
        "probabilities": probabilities,
        "attention": attention,
        "model_version": version,
    }


def _add_commands(router: APIRouter, backend: Backend) -> None:
    @router.post("/engine/pause")
    async def pause() -> Any:
        """Open nothing new; stops and targets go on."""
        return _json({"state": await backend.command("pause")})

    @router.post("/engine/resume")
    async def resume() -> Any:
        """Trade again after a pause."""
        return _json({"state": await backend.command("resume")})

    @router.post("/engine/emergency-stop")
    async def emergency_stop(body: EmergencyBody | None = None) -> Any:
        """Cancel and close everything now; stay halted until cleared."""
        return _json(await backend.command("emergency_stop", (body or EmergencyBody()).reason))

    @router.post("/engine/emergency-stop/clear")
    async def clear() -> Any:
        """Acknowledge an emergency stop; the desk is then paused."""
        return _json({"state": await backend.command("clear")})

    @router.post("/engine/mode")
    async def mode(body: ModeBody) -> Any:
        """Switch between paper and live; live needs the exact confirmation."""
        return _json({"mode": await backend.command("set_mode", body.mode, body.confirmation)})


def _json(content: Any) -> Json:
    return Json(content)  # a response, not a value: FastAPI would first copy it through its own encoder


def encode_cursor(bar_time_ns: int, symbol: str) -> str:
    """Return the place after one decision as opaque text."""
    return base64.urlsafe_b64encode(f"{bar_time_ns} {symbol}".encode()).decode()


def decode_cursor(cursor: str) -> tuple[int, str]:
    """Return bar time (ns) and symbol of a cursor.

    Raises
    ------
    HTTPException
        422 if it is not one of ours.
    """
    try:
        bar_time, _, symbol = base64.urlsafe_b64decode(cursor.encode("ascii")).decode().partition(" ")
        if not 0 <= int(bar_time) < 2**63 or not symbol:
            raise DataError(cursor)
    except (ValueError, binascii.Error, DataError):
        raise HTTPException(422, "cursor: not one this API gave out") from None
    return int(bar_time), symbol


@dataclass(frozen=True, slots=True)
class GatewaySpec:
    """What the deployment is told.

    Attributes
    ----------
    token : str
        Bearer token; kept out of `repr`, like the database address.
    dsn : str
    push_interval_ms : int
    namespace : str
        Ray namespace of the actors.
    allowed_hosts : tuple of str
        Host names under which the API may be called beside localhost and IP addresses.
    """

    token: str = field(repr=False)
    dsn: str = field(repr=False)
    push_interval_ms: int
    namespace: str
    allowed_hosts: tuple[str, ...] = ()


@serve.deployment(
    name="Gateway",
    num_replicas=1,
    max_ongoing_requests=256,
    ray_actor_options={"num_cpus": 0},
    health_check_period_s=2,
    health_check_timeout_s=10,
    graceful_shutdown_timeout_s=1,
    graceful_shutdown_wait_loop_s=0.2,
)
@serve.ingress()
class Gateway:
    """The API as a Serve replica.

    Parameters
    ----------
    spec : GatewaySpec
    """

    def __init__(self, spec: GatewaySpec) -> None:
        self._spec = spec

    def __serve_build_asgi_app__(self) -> FastAPI:
        spec = self._spec
        backend = RayBackend(spec.namespace, spec.dsn)
        security = Security(token=spec.token, allowed_hosts=spec.allowed_hosts)
        return build_api(backend, security, DASHBOARD, spec.push_interval_ms / 1e3)


def gateway_app(spec: GatewaySpec) -> serve.Application:
    """Return the deployment bound to its desk."""
    return cast(serve.Application, cast(Any, Gateway).bind(spec))
