"""ccxt exchanges as Helios uses them: exact numbers, our own taps on what comes in, addresses of choice.

ccxt.pro hands out trades and books through futures that one awaits again and again. A future that nobody awaits at that moment
is resolved for nothing: of several symbols in one burst all but the first wait for their next message. So Helios subscribes
once and taps the places through which every record goes: the trade cache's `append`, and the socket client's `resolve` and
`reject`. A frame that ccxt cannot read would end its receive loop without a word; the tap turns that into a failure.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import ccxt.async_support
import ccxt.pro
from ccxt.async_support.base.ws.order_book import OrderBook as CcxtBook
from ccxt.base.errors import BadResponse, OperationFailed
from ccxt.base.errors import BaseError as CcxtError

from helios.errors import ConfigError, TransportError
from helios.venues.budget import RequestBudget
from helios.venues.ccxt.inbox import Inbox
from helios.venues.ccxt.limits import PUBLIC
from helios.venues.ccxt.mapping import ExactNumber
from helios.venues.ccxt.support import Access, VenueSupport

log = logging.getLogger(__name__)

PARSE_ERRORS = (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError)
TOO_MANY = (418, 429)
FIRST_ERROR = 400
CLOSE_WAIT_MS = 50  # ccxt sleeps so long after closing, for TLS sockets to finish


@dataclass(slots=True)
class Answer:
    """What the last HTTP answer said beside its data; `error_code` is the venue's own, where a refusal had one."""

    status: int = 0
    retry_after_s: float | None = None
    error_code: int | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and as whom.

    Attributes
    ----------
    rest_url, ws_url : str
        Scheme, host and port (and path prefix) put in place of those of every address; empty keeps ccxt's.
    sandbox : bool
        The venue's own test site.
    timeout_s : float
        Of each HTTP request and of opening a socket.
    api_key, secret : str
        Only for venues that want a key for public data.
    """

    rest_url: str = ""
    ws_url: str = ""
    sandbox: bool = False
    timeout_s: float = 10.0
    api_key: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)


class _Tapped:
    """Mixed in before an exchange class of ccxt."""

    number = ExactNumber
    answer: Answer
    budget: RequestBudget | None
    tap: Tap | None
    took_s = 0.0  # from the last request on its way to its answer

    @staticmethod
    def safe_float(container: Any, key: Any, default: Any = None) -> Any:
        # Books are read with this; the text must survive.
        try:
            return ExactNumber(container[key])
        except PARSE_ERRORS:
            return default

    async def throttle(self, cost: Any = None) -> None:
        # Every request goes through here, the book snapshots that ccxt asks for on its own account included.
        await super().throttle(cost)  # type: ignore[misc]
        if self.budget is not None:
            for _ in range(max(1, math.ceil(cost or 1))):
                await self.budget.admit(PUBLIC)

    async def fetch(self, url: Any, method: Any = "GET", headers: Any = None, body: Any = None) -> Any:
        sent_s = time.monotonic()  # the waits for our own limits are over here
        answer = await super().fetch(url, method, headers, body)  # type: ignore[misc]
        self.took_s = time.monotonic() - sent_s
        return answer

    def on_rest_response(self, code: int, reason: Any, url: Any, method: Any, headers: Any, body: str, *args: Any) -> Any:
        named = {str(k).lower(): v for k, v in (headers or {}).items()}
        self.answer = Answer(code, _seconds(named.get("retry-after")) if code in TOO_MANY else None, _error_code(code, body))
        if code < FIRST_ERROR and body.lstrip()[:1] not in ("{", "["):
            # ccxt would take a maintenance page for an answer without rows.
            raise BadResponse(f"{method} {url}: not JSON: {body[:80]!r}")
        return super().on_rest_response(code, reason, url, method, headers, body, *args)  # type: ignore[misc]

    def parse_ohlcv(self, ohlcv: Any, market: Any = None) -> Any:
        row = super().parse_ohlcv(ohlcv, market)  # type: ignore[misc]
        if not isinstance(row[0], int):
            raise ValueError(f"candle without a time: {str(ohlcv)[:80]}")  # ccxt would drop it without a word
        return row

    def client(self, url: str) -> Any:
        made = super().client(url)  # type: ignore[misc]
        if self.tap is not None:
            self.tap.attach(made)
        return made

    def on_error(self, client: Any, error: object) -> None:
        super().on_error(client, error)  # type: ignore[misc]
        if self.tap is not None:
            self.tap.fail(error)

    def on_close(self, client: Any, code: object) -> None:
        super().on_close(client, code)  # type: ignore[misc]
        if self.tap is not None:
            self.tap.fail(TransportError(f"the venue closed the socket ({code})"))


class Tap:
    """Leads what ccxt receives into an inbox. One object per connection; the first failure counts.

    Parameters
    ----------
    inbox : Inbox
        Where records go.
    wake : callable
        Called after each record and on failure.
    """

    def __init__(self, inbox: Inbox, wake: Callable[[], None]) -> None:
        self._inbox = inbox
        self._wake = wake
        self.failure: TransportError | None = None
        self.refusal = ""  # what the venue said no to, if that is why
        self.unreadable = 0

    def fail(self, error: object) -> None:
        """Give the connection up; later reasons are ignored."""
        if self.failure is None:
            self.failure = error if isinstance(error, TransportError) else TransportError(f"{type(error).__name__}: {error}")
            if isinstance(error, CcxtError) and not isinstance(error, OperationFailed):
                self.refusal = str(error)
        self._wake()

    def attach(self, client: Any) -> None:
        """Tap a ccxt socket client, once."""
        if "resolve" in vars(client):
            return
        resolve, reject, handle = client.resolve, client.reject, client.handle_text_or_binary_message

        def tapped_resolve(result: Any, message_hash: Any = None) -> Any:
            if isinstance(result, CcxtBook):
                self._inbox.on_book(result)
                self._wake()
            return resolve(result, message_hash)

        def tapped_reject(error: Any, message_hash: Any = None) -> Any:
            self.fail(error)
            return reject(error, message_hash)

        def tapped_handle(data: Any) -> None:
            try:
                handle(data)
            except PARSE_ERRORS as error:
                # Whatever the frame meant to change in a book is lost with it: only a new snapshot makes that good.
                self.unreadable += 1
                self.fail(TransportError(f"unreadable frame {str(data)[:120]!r}: {type(error).__name__} {error}"))
            except (CcxtError, TransportError) as error:
                self.fail(error)

        client.resolve, client.reject, client.handle_text_or_binary_message = tapped_resolve, tapped_reject, tapped_handle

    def trade_cache(self) -> TradeCache:
        """Return what stands in `exchange.trades` in the place of ccxt's cache."""
        return TradeCache(self._take_trade)

    def _take_trade(self, trade: Mapping[str, Any]) -> None:
        self._inbox.on_trade(trade)
        self._wake()


class TradeCache(list[Any]):
    """Stands where ccxt keeps its newest trades: passes each on and keeps none."""

    def __init__(self, take: Callable[[Mapping[str, Any]], None]) -> None:
        super().__init__()
        self._take = take

    def append(self, trade: Mapping[str, Any]) -> None:
        self._take(trade)

    def getLimit(self, symbol: str | None, limit: int | None) -> int | None:  # noqa: N802 (ccxt's name)
        """Answer ccxt's question how many are new."""
        return limit


def make_exchange(
    venue: VenueSupport, access: Access, endpoint: Endpoint, budget: RequestBudget | None = None, tap: Tap | None = None
) -> Any:
    """Return a ccxt exchange of the venue. Its owner must await `close()`.

    Raises
    ------
    ConfigError
        If the test site is wanted where there is none.
    """
    if endpoint.sandbox and not access.has_sandbox:  # ccxt would say that NoneType is not iterable
        raise ConfigError(f"{venue.name} ({access.ccxt_id}) has no test site: unset venue.sandbox")
    module = ccxt.pro if access.streams else ccxt.async_support
    base = getattr(module, access.ccxt_id)
    made = type(base.__name__, (_Tapped, base), {"answer": Answer(), "budget": budget, "tap": tap})(
        {
            "timeout": int(endpoint.timeout_s * 1000),
            "enableRateLimit": True,
            "aiohttp_trust_env": True,
            "options": dict(access.options),
            **({"apiKey": endpoint.api_key, "secret": endpoint.secret} if endpoint.api_key else {}),
        }
    )
    made.timeout_on_exit = CLOSE_WAIT_MS
    made.has = {**made.has, "fetchCurrencies": False}  # one request less; nothing here needs them
    if endpoint.sandbox:
        made.set_sandbox_mode(True)
    made.urls["api"] = moved(made.urls["api"], endpoint.rest_url, endpoint.ws_url)
    return made


def moved(urls: Any, rest_url: str, ws_url: str) -> Any:
    """Return ccxt's tree of addresses with scheme, host and port replaced; an empty address keeps what is there."""
    if isinstance(urls, Mapping):
        return {name: moved(value, rest_url, ws_url) for name, value in urls.items()}
    if not isinstance(urls, str):
        return urls
    old = urlsplit(urls)
    new = urlsplit(ws_url if old.scheme in ("ws", "wss") else rest_url)
    return urls if not new.netloc else urlunsplit((new.scheme, new.netloc, new.path.rstrip("/") + old.path, old.query, ""))


def _error_code(status: int, body: str) -> int | None:
    if status < FIRST_ERROR:
        return None
    try:
        answer = json.loads(body)
        return int(str(answer.get("code", answer.get("retCode")))) if isinstance(answer, dict) else None
    except ValueError:
        return None


def _seconds(text: object) -> float | None:
    return float(text) if isinstance(text, str) and text.isascii() and text.isdigit() else None
