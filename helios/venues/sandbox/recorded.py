"""Markets from recorded minute candles: trades and a book made up so that each minute comes out exactly as it was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from random import Random

import numpy as np

from helios.domain.enums import Side, Timeframe
from helios.domain.market import Bar, BookUpdate, VenueCandle
from helios.errors import ConfigError, DataError
from helios.venues.replay.candles import CandleReplay, open_candle_replay
from helios.venues.sandbox.book import LOT_DECIMALS, BookSide, checksum, decimal_text
from helios.venues.sandbox.buckets import DAY_NS, BucketStore
from helios.venues.sandbox.exchange import Exchange
from helios.venues.sandbox.macro import MINUTE_NS, FloatArray
from helios.venues.sandbox.path import minute_path
from helios.venues.sandbox.specs import SymbolSpec
from helios.venues.sandbox.ticks import FIRST_SEQUENCE_ID, LOTS, MS_NS, SECOND_NS, STEPS, MarketEvent, TickTrade, uuid7

LEVEL_LOT_SHARE = 2.0  # a level's mean size in trades of the present minute
SPREAD_BPS = 2.0


class RecordedSymbol:
    """One pair of recorded candles.

    Parameters
    ----------
    spec : SymbolSpec
    bars : dict of int to Bar
        Recorded minutes by open time; one that lacks is an empty minute.
    close : float
        Last price before the first minute to trade.
    seed : int
        Equal seeds give equal trades whatever minute the market starts in.
    """

    def __init__(self, spec: SymbolSpec, bars: dict[int, Bar], close: float, seed: int) -> None:
        self.spec = spec
        self._bars = bars
        self._seed = seed
        self._random = Random(f"{seed} {spec.symbol}")
        self._tick = float(spec.tick_size)
        self.decimals = max(0, -int(spec.tick_size.as_tuple().exponent))
        self._last = round(close / self._tick)
        self._mean_lots = LOTS
        self.bids = BookSide(Side.BUY, self.decimals, self._gap, self._quantity)
        self.asks = BookSide(Side.SELL, self.decimals, self._gap, self._quantity)
        self._sequence = self._random.randrange(500_000, 1_000_000)
        self._changed_ns = 0
        self._trades: dict[int, tuple[int, int, bool]] = {}  # price in ticks, lots and whether the taker buys, by second
        self._quote = Decimal(0)
        self._move(self._last, True)
        self._publish(0)

    @property
    def last_price(self) -> str:
        """Price of the last trade."""
        return decimal_text(self._last, self.decimals)

    def snapshot(self, ts_ns: int) -> BookUpdate:
        """Return the whole book."""
        bids, asks = self.bids.levels, self.asks.levels
        return BookUpdate(self.spec.symbol, True, bids, asks, self._sequence, checksum(bids, asks), self._changed_ns or ts_ns)

    def step(self, second: int, ts_ns: int, sequence_id: int) -> list[TickTrade | BookUpdate]:
        """Return what one second brings: the book moves to the coming trade's price, the trade, and what it left."""
        if second == 0:
            self._begin(ts_ns)
        planned = self._trades.get(second)
        if planned is None:
            return self._refresh(ts_ns)
        ticks, lots, buys = planned
        self._move(ticks, buys)
        before = self._publish(ts_ns + 100 * MS_NS)
        side = self.asks if buys else self.bids
        side.set_lots(0, max(lots, side.lots[0] - lots))
        price, quantity = decimal_text(ticks, self.decimals), decimal_text(lots, LOT_DECIMALS)
        taker, at_ns = Side.BUY if buys else Side.SELL, ts_ns + 500 * MS_NS
        trade = TickTrade(self.spec.symbol, uuid7(at_ns // MS_NS, self._random), sequence_id, price, quantity, taker, at_ns)
        self._last = ticks
        self._quote += Decimal(price) * Decimal(quantity)
        after = self._publish(ts_ns + 600 * MS_NS)
        return [event for event in (before, trade, after) if event is not None]

    def close(self, open_ns: int) -> VenueCandle:
        """Return the minute's candle, the recorded one; an absent minute stands at the last price."""
        bar = self._bars.get(open_ns)
        last = float(self.last_price)
        prices = (last,) * 4 if bar is None or bar.volume == 0.0 else (bar.open, bar.high, bar.low, bar.close)
        volume = 0.0 if bar is None else bar.volume
        return VenueCandle(self.spec.symbol, Timeframe.M1, open_ns, *prices, volume, float(round(self._quote, 8)))

    def _begin(self, open_ns: int) -> None:
        self._quote = Decimal(0)
        bar = self._bars.get(open_ns)
        self._trades = {}
        if bar is None or bar.volume == 0.0:
            return
        prices = [round(price / self._tick) for price in (bar.open, bar.high, bar.low, bar.close)]
        random = Random(f"{self._seed} {self.spec.symbol} {open_ns}")
        self._trades = minute_path(random, prices, lots_of(bar.volume))
        self._mean_lots = max(sum(trade[1] for trade in self._trades.values()) // len(self._trades), 1)

    def _move(self, ticks: int, buys: bool) -> None:
        # The touch on the taker's side of the book is the trade's price.
        spread = max(1, round(ticks * SPREAD_BPS * 1e-4))
        bid = max(ticks - spread, 1) if buys else ticks
        self.bids.move_to(bid)
        self.asks.move_to(max(ticks if buys else ticks + spread, bid + 1))

    def _refresh(self, ts_ns: int) -> list[TickTrade | BookUpdate]:
        side = self.bids if self._random.random() < 0.5 else self.asks
        rank = int(len(side.ticks) * self._random.random() ** 2)
        side.set_lots(rank, self._quantity(side.ticks[rank], rank))
        update = self._publish(ts_ns + 950 * MS_NS)
        return [] if update is None else [update]

    def _publish(self, ts_ns: int) -> BookUpdate | None:
        bids, asks = self.bids.take_changes(), self.asks.take_changes()
        if not bids and not asks:
            return None
        self._sequence += 1
        self._changed_ns = ts_ns
        return BookUpdate(
            self.spec.symbol, False, bids, asks, self._sequence, checksum(self.bids.levels, self.asks.levels), ts_ns
        )  # fmt: skip

    def _gap(self) -> int:
        return 1 + int(self._random.random() * 2e-4 * self._last)

    def _quantity(self, ticks: int, rank: int) -> int:
        return max(round(self._mean_lots * LEVEL_LOT_SHARE * self._random.lognormvariate(-0.125, 0.5)), 1)


class RecordedMarket:
    """Recorded candles traded second by second; after the last minute nothing trades any more.

    Parameters
    ----------
    symbols : sequence of RecordedSymbol
    start_ns, end_ns : int
        First minute to trade and close of the last one.
    """

    def __init__(self, symbols: Sequence[RecordedSymbol], start_ns: int, end_ns: int) -> None:
        self.time_ns = start_ns
        self.specs = tuple(symbol.spec for symbol in symbols)
        self.symbols = {symbol.spec.symbol: symbol for symbol in symbols}
        self._in_order = list(symbols)
        self._end_ns = end_ns
        self._trade_number = FIRST_SEQUENCE_ID

    def step(self) -> list[MarketEvent]:
        """Advance one second; a minute's last step ends with its candles."""
        now, second = self.time_ns, self.time_ns % MINUTE_NS // SECOND_NS
        self.time_ns += SECOND_NS
        if now >= self._end_ns:
            return []
        events: list[MarketEvent] = []
        for symbol in self._in_order:
            self._trade_number += 1
            events.extend(symbol.step(second, now, self._trade_number))
        if second == STEPS - 1:
            events.extend(symbol.close(self.time_ns - MINUTE_NS) for symbol in self._in_order)
        return events


def lots_of(volume: float) -> int:
    """Return a volume in steps of 1e-8, exactly as its shortest decimal says."""
    return int((Decimal(repr(volume)) * LOTS).to_integral_value())


def candle_exchange(directory: Path, symbols: Sequence[str] | None, seed: int, start_ns: int | None) -> Exchange:
    """Return an exchange on the recorded minutes of `directory`; the minutes before its start are its history.

    Parameters
    ----------
    directory : Path
        `<PAIR>_1m.parquet` files, see `CandleReplay`.
    symbols : sequence of str, optional
        Which to trade, as BASE/QUOTE; all by default. Perpetuals are served as spot pairs, since VALR has no such contracts.
    seed : int
    start_ns : int, optional
        First minute to trade; by default a quarter of the way into what all files cover.

    Raises
    ------
    ConfigError
        If a symbol or the start is not there.
    DataError
        If the files are broken or a minute's volume is too small for its four prices.
    """
    sources = {symbol.partition(":")[0]: source for symbol, source in open_candle_replay(directory).items()}
    chosen = list(sources) if symbols is None else list(symbols)
    missing = sorted(set(chosen) - set(sources))
    if missing:
        raise ConfigError(f"recorded: no {', '.join(missing)}; there are {', '.join(sources)}")
    first, last = max(sources[s].start_ns for s in chosen), min(sources[s].end_ns for s in chosen)
    start = (first + (last - first) // 4 if start_ns is None else start_ns) // MINUTE_NS * MINUTE_NS
    if not first < start < last:
        raise ConfigError(f"recorded: start {start} is not between {first} and {last}")
    found = [_symbol(symbol, sources[symbol], start, seed) for symbol in chosen]
    stores = {traded.spec.pair: store for traded, store in found}
    return Exchange(RecordedMarket([traded for traded, _ in found], start, last), stores)


def _symbol(symbol: str, source: CandleReplay, start_ns: int, seed: int) -> tuple[RecordedSymbol, BucketStore]:
    bars = {bar.open_time: bar for bar in source.read_until(source.end_ns)}
    for bar in bars.values():
        if lots_of(bar.volume) < 4 and bar.high != bar.low:
            raise DataError(f"{symbol}: minute {bar.open_time} has prices but hardly any volume")
    rows, begins_ns = history_rows(bars, start_ns)
    contract = source.instrument
    tick = min(contract.tick_size, Decimal(1))
    spec = SymbolSpec(
        symbol, float(rows[-1, 3]), tick, contract.min_quantity_base, contract.max_quantity_base, contract.max_notional_quote,
        0.0, 0.0, 0.0, SPREAD_BPS,
    )  # fmt: skip
    return RecordedSymbol(spec, bars, float(rows[-1, 3]), seed), BucketStore(begins_ns, rows, np.empty((0, 6)))


def history_rows(bars: dict[int, Bar], end_ns: int) -> tuple[FloatArray, int]:
    """Return the minutes (n, 6) from the midnight before the first bar until `end_ns`, and that midnight.

    Minutes without a bar repeat the price before with volume 0. The files hold no quote volume: it is volume times the mean of
    the four prices.
    """
    first = min(bars)
    begins_ns = first // DAY_NS * DAY_NS
    price, rows = bars[first].open, []
    for when in range(begins_ns, end_ns, MINUTE_NS):
        bar = bars.get(when)
        if bar is None or bar.volume == 0.0:
            rows.append((price, price, price, price, 0.0, 0.0))
            continue
        price = bar.close
        mean = (bar.open + bar.high + bar.low + bar.close) / 4.0
        rows.append((bar.open, bar.high, bar.low, bar.close, bar.volume, bar.volume * mean))
    return np.array(rows, dtype=np.float64).reshape(-1, 6), begins_ns
