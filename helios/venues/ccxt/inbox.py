"""What came in on one connection, between ccxt's callbacks and whoever reads the stream. No I/O and no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from helios.domain.market import BookUpdate, Level, Trade
from helios.errors import DataError, TransportError
from helios.venues.ccxt.mapping import MS_NS, Json, to_levels, to_trade

BOOK_LEVELS = 25
MAX_PENDING_TRADES = 20_000
REMEMBERED_TRADES = 5_000  # a symbol: venues repeat the newest 50 to 1,000 prints when a subscription starts anew
MAX_CROSSED = 10

Window = tuple[tuple[Level, ...], tuple[Level, ...]]


class SeenTrades:
    """The newest trade ids of each symbol; outlives connections, so that a repeated print is yielded once."""

    def __init__(self) -> None:
        self._ids: dict[str, dict[str, None]] = {}

    def is_new(self, trade: Trade) -> bool:
        """Remember the trade; False if it was remembered already."""
        ids = self._ids.setdefault(trade.symbol, {})
        if trade.trade_id in ids:
            return False
        ids[trade.trade_id] = None
        if len(ids) > REMEMBERED_TRADES:
            del ids[next(iter(ids))]
        return True


class Inbox:
    """Trades in order of arrival and, for each book that changed since it was last read, the change.

    A reader that lags gets every trade but only the newest state of a book: what it has not seen is merged into one diff.

    Parameters
    ----------
    sizes : mapping of str to Decimal
        Symbols of the connection and the base units in one of ccxt's units.
    seen : SeenTrades
        Shared with the connections before and after.
    now_ns : callable
        UTC time of arrival.
    n_levels : int, default=25
        Depth of the books that are passed on.
    is_maker_side : bool, default=False
        The venue's trades name the resting order's side.
    """

    def __init__(
        self,
        sizes: Mapping[str, Decimal],
        seen: SeenTrades,
        now_ns: Callable[[], int],
        n_levels: int = BOOK_LEVELS,
        *,
        is_maker_side: bool = False,
    ) -> None:
        self._sizes = dict(sizes)
        self._seen = seen
        self._now_ns = now_ns
        self.n_levels = n_levels
        self._is_maker_side = is_maker_side
        self._trades: deque[Trade] = deque()
        self._books: dict[str, Mapping[str, Any]] = {}  # ccxt's own objects, read only when the reader comes
        self._dirty: dict[str, None] = {}
        self._windows: dict[str, Window] = {}
        self._sequences: dict[str, int] = {}
        self._crossed: dict[str, int] = {}
        self.received = 0
        self.malformed = 0
        self.last_error = ""

    def on_trade(self, trade: Json) -> None:
        """Take a ccxt trade; a malformed one is counted and dropped, a repeated one dropped.

        Raises
        ------
        TransportError
            If the reader has fallen so far behind that the connection should be given up.
        """
        symbol = str(trade.get("symbol"))
        self.received += 1
        try:
            if symbol not in self._sizes:
                raise DataError(f"trade of {symbol}, which is not subscribed")
            made = to_trade(trade, symbol, self._now_ns(), self._sizes[symbol], is_maker_side=self._is_maker_side)
        except DataError as error:
            self._refuse(error)
            return
        if self._seen.is_new(made):
            self._trades.append(made)
        if len(self._trades) > MAX_PENDING_TRADES:
            raise TransportError(f"{len(self._trades)} trades wait to be read: the reader is too slow")

    def on_book(self, book: Mapping[str, Any]) -> None:
        """Note that a ccxt book (kept up to date by ccxt in place) has changed."""
        symbol = book.get("symbol")
        if symbol in self._sizes:
            self.received += 1
            self._books[str(symbol)] = book
            self._dirty[str(symbol)] = None

    def resend_book(self, symbol: str) -> bool:
        """Let the next book of `symbol` be a snapshot; False if none has come yet."""
        if symbol not in self._books:
            return False
        self._windows.pop(symbol, None)
        self._dirty[symbol] = None
        return True

    def take(self) -> Iterator[Trade | BookUpdate]:
        """Yield what has come in and not been read, until there is nothing more.

        Raises
        ------
        TransportError
            If a book stays crossed: ccxt has lost step with the venue.
        """
        while self._trades or self._dirty:
            while self._trades:
                yield self._trades.popleft()
            if self._dirty:
                symbol = next(iter(self._dirty))
                del self._dirty[symbol]
                update = self._update(symbol)
                if update is not None:
                    yield update

    def _refuse(self, error: DataError) -> None:
        self.malformed += 1
        self.last_error = str(error)

    def _update(self, symbol: str) -> BookUpdate | None:
        # The change of the visible levels since the last one passed on; numbered, so that a loss on our own way shows.
        book, now_ns = self._books[symbol], self._now_ns()
        try:
            window = self._window(symbol, book)
        except DataError as error:
            self._refuse(error)
            return None
        if window is None:
            return None
        before, self._windows[symbol] = self._windows.get(symbol), window
        bids, asks = window if before is None else (_changes(before[0], window[0]), _changes(before[1], window[1]))
        if before is not None and not bids and not asks:
            return None
        sequence = self._sequences[symbol] = self._sequences.get(symbol, 0) + 1
        timestamp = book.get("timestamp")
        ts_event = timestamp * MS_NS if isinstance(timestamp, int) else now_ns
        return BookUpdate(symbol, before is None, bids, asks, sequence, None, ts_event, now_ns)

    def _window(self, symbol: str, book: Mapping[str, Any]) -> Window | None:
        bids = to_levels(book["bids"], self.n_levels, self._sizes[symbol])
        asks = to_levels(book["asks"], self.n_levels, self._sizes[symbol])
        if not bids or not asks or float(bids[0][0]) < float(asks[0][0]):
            self._crossed[symbol] = 0
            return bids, asks
        # Between two messages of one change a book may cross for a moment; one that stays so is wrong.
        self._crossed[symbol] = self._crossed.get(symbol, 0) + 1
        if self._crossed[symbol] >= MAX_CROSSED:
            raise TransportError(f"book of {symbol} stays crossed: {bids[0][0]} >= {asks[0][0]}")
        return None


def _changes(before: tuple[Level, ...], after: tuple[Level, ...]) -> tuple[Level, ...]:
    # Levels that left the window are removed, so that the reader's book is the window and nothing else.
    if before == after:
        return ()
    kept = dict(after)
    gone = [(price, "0") for price, _ in before if price not in kept]
    known = set(before)
    return (*gone, *[level for level in after if level not in known])
