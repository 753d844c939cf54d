"""One connection to a venue, by sockets or by asking in turn. Lives until its first failure."""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from ccxt.base.errors import BaseError as CcxtError

from helios.domain.market import BookUpdate, Trade
from helios.errors import HeliosError, TransportError, VenueError
from helios.venues.ccxt.client import PARSE_ERRORS, Tap
from helios.venues.ccxt.inbox import Inbox, SeenTrades
from helios.venues.ccxt.mapping import Json, with_ids
from helios.venues.ccxt.rest import RestCaller
from helios.venues.ccxt.support import VenueSupport

log = logging.getLogger(__name__)

CHECKS_PER_SILENCE = 8
NEVER = 1_000_000_000
POLLED_TRADES = 100
BOOK_PATIENCE_S = 30.0  # what ccxt holds is sent again at once: who asks again so soon was not helped by it
FIRST_BOOK_S = 120.0  # snapshots of many symbols come one by one, as the venue's limit allows


class Link(ABC):
    """What both kinds of connection have in common.

    Parameters
    ----------
    sizes : mapping of str to Decimal
        Symbols and base units per ccxt unit.
    support : VenueSupport
        The venue.
    seen : SeenTrades
        Trades of earlier connections.
    n_levels : int
        Depth of the books.
    """

    def __init__(self, sizes: Mapping[str, Decimal], support: VenueSupport, seen: SeenTrades, n_levels: int) -> None:
        self.symbols = list(sizes)
        self._support = support
        self._inbox = Inbox(sizes, seen, time.time_ns, n_levels, is_maker_side=support.is_maker_side)
        self._woken = asyncio.Event()
        self._tap = Tap(self._inbox, self._woken.set)
        self._tasks: list[asyncio.Task[None]] = []
        self._crash: BaseException | None = None
        self._book_asked_s: dict[str, float] = {}
        self._made_s = time.monotonic()

    @property
    def has_data(self) -> bool:
        """Whether a record has come."""
        return self._inbox.received > 0

    @property
    def protocol_errors(self) -> int:
        """Malformed records and frames so far."""
        return self._inbox.malformed + self._tap.unreadable

    @property
    def refusal(self) -> str:
        """What the venue said no to, where that ended the connection."""
        return self._tap.refusal

    @abstractmethod
    async def open(self) -> None:
        """Start; data come through `take` after `wait`."""

    def take(self) -> Iterator[Trade | BookUpdate]:
        """Yield what has come in; raises TransportError once that is read and the connection is lost, and our own bugs."""
        yield from self._inbox.take()
        if self._crash is not None:
            raise self._crash
        if self._tap.failure is not None:
            raise self._tap.failure

    async def wait(self) -> None:
        """Return when there may be something to take."""
        await self._woken.wait()
        self._woken.clear()

    def fail(self, error: TransportError) -> None:
        """Give the connection up."""
        self._tap.fail(error)

    def request_book(self, symbol: str, now_s: float) -> None:
        """Have the next book be a snapshot of what ccxt holds; if that did not help a moment ago, or none ever came, start anew.

        Parameters
        ----------
        symbol : str
        now_s : float
            Monotonic seconds.
        """
        if symbol not in self.symbols:
            return
        asked_s = self._book_asked_s.get(symbol)
        self._book_asked_s[symbol] = now_s
        if not self._inbox.resend_book(symbol):
            if now_s - self._made_s >= FIRST_BOOK_S:
                self.fail(TransportError(f"no book of {symbol} within {FIRST_BOOK_S:.0f} s"))
        elif asked_s is not None and now_s - asked_s < BOOK_PATIENCE_S:
            self.fail(TransportError(f"book of {symbol} asked for twice within {BOOK_PATIENCE_S:.0f} s"))
        else:
            self._woken.set()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._crash = error
            self._woken.set()

    async def close(self) -> None:
        """End the tasks and sockets of this connection."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if tasks and self._inbox.malformed:
            log.warning(
                "%s: %d malformed records dropped, the last: %s", self._support.name, self._inbox.malformed, self._inbox.last_error
            )


class SocketLink(Link):
    """A connection through ccxt.pro. A fresh exchange object each, so that no half-dead subscription survives.

    Parameters
    ----------
    make : callable
        Tap to ccxt exchange.
    source : ccxt exchange
        Whose markets are known already.
    silence_timeout_s, first_data_timeout_s : float
        Without any frame, and without any record after opening.
    """

    def __init__(
        self, make: Callable[[Tap], Any], source: Any, *, silence_timeout_s: float, first_data_timeout_s: float, **common: Any
    ) -> None:
        super().__init__(**common)
        self._exchange = make(self._tap)
        self._exchange.set_markets_from_exchange(source)
        self._exchange.streaming = {
            **self._exchange.streaming,
            "keepAlive": int(silence_timeout_s * 500),  # a ping after half of the silence leaves the other half for the answer
            "maxPingPongMisses": NEVER,  # ccxt's own verdict goes by the clock and takes a busy reader for a dead venue
            "connectionTimeout": max(1000, int(self._exchange.timeout)),  # ccxt cuts it to whole seconds
        }
        self._check_s = silence_timeout_s / CHECKS_PER_SILENCE
        self._first_data_timeout_s = first_data_timeout_s
        self._opened_s = 0.0
        self._heard: dict[str, tuple[object, int]] = {}  # address -> time of its last frame, checks since that changed

    async def open(self) -> None:
        self._opened_s = time.monotonic()
        exchange, depth = self._exchange, self._support.book_depth
        exchange.trades.update({symbol: self._tap.trade_cache() for symbol in self.symbols})
        if exchange.has.get("watchTradesForSymbols") and exchange.has.get("watchOrderBookForSymbols"):
            calls = [exchange.watch_trades_for_symbols(self.symbols), exchange.watch_order_book_for_symbols(self.symbols, depth)]
        else:
            calls = [exchange.watch_trades(symbol) for symbol in self.symbols]
            calls += [exchange.watch_order_book(symbol, depth) for symbol in self.symbols]
        for call in calls:
            self._start(self._subscribe(call))
        self._start(self._watch_silence())

    async def close(self) -> None:
        await super().close()
        await self._exchange.close()

    async def _subscribe(self, call: Awaitable[Any]) -> None:
        # The first answer ends the call; everything after it comes through the tap.
        try:
            await call
        except (CcxtError, *PARSE_ERRORS) as error:
            self._tap.fail(error)

    async def _watch_silence(self) -> None:
        # Counted in checks, not by the clock: a loop that was held up elsewhere has not listened, so it makes one check of
        # a long absence, and what queued up meanwhile is a sign of life at the next.
        while self._tap.failure is None:
            await asyncio.sleep(self._check_s)
            for url, client in list(self._exchange.clients.items()):
                heard_at, checks = self._heard.get(url, (None, 0))
                newest = client.last_message_at or client.connectionEstablished
                self._heard[url] = (newest, checks + 1 if newest == heard_at and newest is not None else 0)
                if self._heard[url][1] >= CHECKS_PER_SILENCE:
                    self._tap.fail(TransportError("the venue fell silent"))
            if not self.has_data and time.monotonic() - self._opened_s > self._first_data_timeout_s:
                self._tap.fail(TransportError(f"no data within {self._first_data_timeout_s:.0f} s of subscribing"))


class PolledLink(Link):
    """A slower stand-in for sockets: trades and book of each symbol by REST, in turn.

    Parameters
    ----------
    caller : RestCaller
        Paces and retries; its failures end the connection.
    poll_interval_s : float
        Shortest time between two looks at the same symbol; the venue's own limit may stretch it.
    """

    def __init__(self, caller: RestCaller, *, poll_interval_s: float, **common: Any) -> None:
        super().__init__(**common)
        self._caller = caller
        self._poll_interval_s = poll_interval_s
        self._newest: dict[str, set[str]] = {}  # ids of each symbol's last page

    async def open(self) -> None:
        self._start(self._poll())

    async def _poll(self) -> None:
        try:
            while True:
                started_s = time.monotonic()
                for symbol in self.symbols:
                    await self._look(symbol)
                await asyncio.sleep(max(0.0, started_s + self._poll_interval_s - time.monotonic()))
        except VenueError as error:
            self._tap.refusal = str(error)
            self._tap.fail(error)
        except HeliosError as error:
            self._tap.fail(error)

    async def _look(self, symbol: str) -> None:
        exchange, call = self._caller.exchange, self._caller.call
        page = with_ids(await call(f"trades of {symbol}", lambda: exchange.fetch_trades(symbol, None, POLLED_TRADES)))
        self._note_gap(symbol, page)
        for trade in page:
            self._inbox.on_trade({**trade, "symbol": symbol})
        book = await call(f"book of {symbol}", lambda: exchange.fetch_order_book(symbol, self._inbox.n_levels))
        self._inbox.on_book({**book, "symbol": symbol})
        self._woken.set()

    def _note_gap(self, symbol: str, page: Sequence[Json]) -> None:
        # A page without one known trade does not join the page before: prints between them were missed.
        ids = {str(trade["id"]) for trade in page}
        before = self._newest.get(symbol)
        if before and ids and before.isdisjoint(ids):
            log.warning("%s: more than %d trades of %s between two looks, some are missing", self._support.name, len(ids), symbol)
        self._newest[symbol] = ids or before or set()
