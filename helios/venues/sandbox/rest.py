"""VALR's public REST routes over the exchange's state; no I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import parse_qsl, unquote, urlsplit

from helios.venues.sandbox import wire
from helios.venues.sandbox.buckets import PERIODS_S
from helios.venues.sandbox.chaos import cut_page
from helios.venues.sandbox.exchange import Exchange
from helios.venues.sandbox.ticks import SECOND_NS

MAX_BUCKETS = 300
MAX_TRADES = 100
PREFIX = "/v1/public/"
ORDER_TYPES = ["LIMIT_POST_ONLY", "LIMIT", "MARKET", "SIMPLE", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"]
Query = dict[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """HTTP status and JSON body."""

    status: int
    body: bytes


class _RefusedError(Exception):
    # Carries the venue's answer out of a handler.
    def __init__(self, status: int, code: int, message: str, field: str | None = None) -> None:
        super().__init__(message)
        body: wire.Json = {"code": code, "message": message}
        if field is not None:
            body["validationErrors"] = {"errors": [{"field": field, "message": message}]}
        self.reply = Reply(status, wire.dump(body))


def _invalid(field: str, message: str) -> _RefusedError:
    return _RefusedError(400, -11, message, field)


@dataclass(frozen=True, slots=True)
class View:
    """How an answer differs from the present truth.

    Attributes
    ----------
    age_ns : int
        Books, trades and buckets as they were so long ago.
    clock_ns : int
        What /time adds.
    page : str
        What is taken from a page of buckets, see `chaos.cut_page`.
    """

    age_ns: int = 0
    clock_ns: int = 0
    page: str = ""


TRUE_VIEW = View()


class RestApi:
    """Answers GET requests.

    Parameters
    ----------
    exchange : Exchange
    now_ns : callable
        Present market time.
    full_book : callable
        Gives the body of /orderbook/full of a pair.
    """

    def __init__(self, exchange: Exchange, now_ns: Callable[[], int], full_book: Callable[[str], wire.Json]) -> None:
        self._exchange = exchange
        self._now_ns = now_ns
        self._plain: dict[str, Callable[[View], object]] = {
            "time": self._time,
            "status": lambda _: {"status": "online"},
            "pairs": self._pairs,
            "pairs/SPOT": self._pairs,
            "pairs/FUTURE": lambda _: [],
            "currencies": self._currencies,
            "ordertypes": lambda _: [{"currencyPair": pair, "orderTypes": ORDER_TYPES} for pair in exchange.specs],
            "marketsummary": lambda _: [exchange.summary(pair) for pair in exchange.specs],
        }
        self._of_pair: dict[str, Callable[[str, Query, View], object]] = {
            "buckets": self._buckets,
            "orderbook": lambda pair, _, view: wire.aggregated_json(pair, exchange.book_before(pair, view.age_ns)),
            "orderbook/full": lambda pair, _, __: full_book(pair),
            "trades": self._trades,
            "ordertypes": lambda pair, _, __: ORDER_TYPES,
            "marketsummary": lambda pair, _, __: exchange.summary(pair),
        }

    def get(self, target: str, view: View = TRUE_VIEW) -> Reply:
        """Answer a request target, path with query."""
        parts = urlsplit(target)
        try:
            return Reply(200, wire.dump(self._route(parts.path, dict(parse_qsl(parts.query)), view)))
        except _RefusedError as refused:
            return refused.reply

    def route_of(self, target: str) -> str:
        """Return the route's name without the pair, such as "buckets"; empty for one that does not exist."""
        route = _route_text(urlsplit(target).path)
        name = route.partition("/")[2]
        return route if route in self._plain else name if name in self._of_pair else ""

    def _route(self, path: str, query: Query, view: View) -> object:
        route = _route_text(path)
        if route in self._plain:
            return self._plain[route](view)
        pair, _, name = route.partition("/")
        if name not in self._of_pair:
            raise _RefusedError(404, -11, "Invalid Request")
        if pair.upper() not in self._exchange.specs:
            raise _unknown_pair(name)
        return self._of_pair[name](pair.upper(), query, view)

    def _currencies(self, _: View) -> list[wire.Json]:
        specs = self._exchange.specs.values()
        names = dict.fromkeys(name for spec in specs for name in (spec.base, spec.quote))
        return [{
            "symbol": "R" if name == "ZAR" else name, "isActive": True, "shortName": name, "longName": name,
            "decimalPlaces": "2" if name == "ZAR" else "8", "withdrawalDecimalPlaces": "2" if name == "ZAR" else "8",
        } for name in names]  # fmt: skip

    def _time(self, view: View) -> wire.Json:
        now = self._now_ns() + view.clock_ns
        return {"epochTime": now // SECOND_NS, "time": wire.iso_ns(now)}

    def _pairs(self, _: View) -> list[wire.Json]:
        return [self._exchange.pair_json(spec) for spec in self._exchange.specs.values()]

    def _buckets(self, pair: str, query: Query, view: View) -> list[wire.Json]:
        period = _number(query, "periodSeconds", 60)
        if period not in PERIODS_S:
            raise _invalid("periodSeconds", f"periodSeconds must be one of {', '.join(map(str, PERIODS_S))}")
        end = _number(query, "endTime", self._now_ns() // SECOND_NS)
        start = _number(query, "startTime", end - MAX_BUCKETS * period)
        limit, skip = _number(query, "limit", MAX_BUCKETS), _number(query, "skip", 0)
        if not 1 <= limit <= MAX_BUCKETS:
            raise _invalid("limit", f"limit must be between 1 and {MAX_BUCKETS}")
        if start > end or end - start > MAX_BUCKETS * period:
            raise _invalid("startTime", f"the range must not be wider than {MAX_BUCKETS} buckets")
        found = self._exchange.buckets[pair].query(period, start * SECOND_NS, end * SECOND_NS)
        if view.age_ns:
            known_ns = self._now_ns() - view.age_ns - period * SECOND_NS
            found = [bucket for bucket in found if bucket.start_ns <= known_ns]
        if query.get("includeEmpty", "false").lower() != "true":
            found = [bucket for bucket in found if bucket.volume > 0]
        return cut_page(view.page, [
            wire.bucket_json(pair, period, b.start_ns, b.prices, b.volume, b.quote_volume)
            for b in list(reversed(found))[skip : skip + limit]
        ])  # fmt: skip

    def _trades(self, pair: str, query: Query, view: View) -> list[wire.Json]:
        limit, skip = _number(query, "limit", MAX_TRADES), _number(query, "skip", 0)
        if not 1 <= limit <= MAX_TRADES:
            raise _invalid("limit", f"limit must be between 1 and {MAX_TRADES}")
        trades = self._exchange.trades(pair)
        if view.age_ns:
            known_ns = self._now_ns() - view.age_ns
            trades = [trade for trade in trades if trade.ts_event <= known_ns]
        if "beforeId" in query:
            ids = [trade.trade_id for trade in trades]
            trades = trades[ids.index(query["beforeId"]) + 1 :] if query["beforeId"] in ids else []
        low, high = _instant(query, "startTime", 0), _instant(query, "endTime", 2**63)
        trades = [trade for trade in trades if low <= trade.ts_event < high]
        return [wire.rest_trade_json(pair, trade) for trade in trades[skip : skip + limit]]


def _route_text(path: str) -> str:
    return unquote(path[len(PREFIX) :]).rstrip("/") if path.startswith(PREFIX) else ""


def _unknown_pair(name: str) -> _RefusedError:
    if name == "marketsummary":
        return _RefusedError(404, -111, "Market summary not found")
    return _RefusedError(400, -21, "Unsupported Currency Pair")


def _number(query: Query, name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise _invalid(name, f"{name} must be a whole number")
    return int(text)


def _instant(query: Query, name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise _invalid(name, f"{name} must be an ISO-8601 time") from None
    if when.tzinfo is None:
        raise _invalid(name, f"{name} must carry a zone")
    return int(when.timestamp() * 1000) * 1_000_000
