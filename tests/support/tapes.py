"""Public prints as a bad connection gives them, and what a reader who knows only the rules makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from helios.domain.decisions import FloatArray
from helios.domain.enums import Side, Timeframe
from helios.domain.market import BAR_VALUES, Bar, BookUpdate, Trade
from helios.features.stream import FeatureState
from helios.market.book import OrderBook
from helios.market.candles import CandleBuilder
from helios.market.minute import MOMENTUM_TRADES

MINUTE = Timeframe.M1.ns
START = 20_000 * 86_400 * 1_000_000_000

Event = Trade | BookUpdate


@dataclass(frozen=True, slots=True)
class Disorder:
    """What is wrong with a tape.

    Attributes
    ----------
    silences : tuple of (int, int)
        First minute and length of stretches without any trade.
    share_doubled, share_delayed : float
        Of the trades: given a second time, or given after up to ten later ones.
    """

    silences: tuple[tuple[int, int], ...] = ()
    share_doubled: float = 0.0
    share_delayed: float = 0.0


def tape(n_minutes: int, first_minute: int, per_minute: float, disorder: Disorder, seed: int, symbol: str = "X") -> list[Event]:
    """Return trades and books in order of arrival; the first event is a trade."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, n_minutes * MINUTE, int(n_minutes * per_minute) + 1))
    minutes = times // MINUTE
    is_kept = np.ones(len(times), dtype=bool)
    for first, length in disorder.silences:
        is_kept &= (minutes < first) | (minutes >= first + length)
    is_kept[0] = True
    times = START + first_minute * MINUTE + times[is_kept]
    prices = 250.0 * np.exp(np.cumsum(rng.normal(0.0, 1e-3, len(times))))
    quantities, is_buy = rng.exponential(2.0, len(times)) + 1e-6, rng.random(len(times)) < 0.5
    trades = [
        Trade(symbol, str(i), price, quantity, Side.BUY if buys else Side.SELL, ts)
        for i, (price, quantity, buys, ts) in enumerate(
            zip(prices.tolist(), quantities.tolist(), is_buy.tolist(), times.tolist(), strict=True)
        )
    ]
    return _with_books(_disturbed(trades, disorder, rng), rng)


def _disturbed(trades: list[Trade], disorder: Disorder, rng: np.random.Generator) -> list[Trade]:
    # Each trade has a place; a delayed one and a copy get a later one.
    placed = []
    for i, trade in enumerate(trades):
        delay = int(rng.integers(1, 11)) if i and rng.random() < disorder.share_delayed else 0
        placed.append((i + delay + 0.5 * (delay > 0), trade))
        if rng.random() < disorder.share_doubled:
            placed.append((i + int(rng.integers(0, 40)) + 0.7, trade))
    return [trade for _, trade in sorted(placed, key=lambda item: item[0])]


def _with_books(trades: Sequence[Trade], rng: np.random.Generator) -> list[Event]:
    events: list[Event] = []
    newest = 0
    for trade in trades:
        events.append(trade)
        newest = max(newest, trade.ts_event)
        if rng.random() < 0.3:
            events.append(_book(trade, newest, rng))
    return events


def _book(trade: Trade, ts: int, rng: np.random.Generator) -> BookUpdate:
    half, (bid, ask) = trade.price * rng.exponential(2e-4), rng.exponential(3.0, 2) + 0.01
    levels = ((f"{trade.price - half:.6f}", f"{bid:.6f}"),), ((f"{trade.price + half + 1e-5:.6f}", f"{ask:.6f}"),)
    return BookUpdate(trade.symbol, True, *levels, None, None, ts)


def minutes_of(events: Sequence[Event]) -> tuple[np.ndarray, FloatArray]:
    """Return open times and rows of the minutes that the trades make, written from the rules alone; book columns are NaN.

    A trade counts if its id is new and its minute is not over, that is, no event of a later minute came before. Open and close go
    by venue time. A minute without trades is flat.
    """
    accepted, momenta = _accepted(events)
    first, last = min(accepted), max(accepted)
    rows = np.full((last - first + 1, len(BAR_VALUES)), np.nan)
    for i, minute in enumerate(range(first, last + 1)):
        rows[i, :8] = _trade_columns(accepted.get(minute, []), rows[i - 1, 3])
        momenta.setdefault(minute, momenta.get(minute - 1, np.nan))
        rows[i, BAR_VALUES.index("trade_momentum")] = momenta[minute]
    return np.arange(first, last + 1) * MINUTE, rows


def _accepted(events: Sequence[Event]) -> tuple[dict[int, list[Trade]], dict[int, float]]:
    accepted: dict[int, list[Trade]] = {}
    momenta: dict[int, float] = {}
    seen: set[str] = set()
    signed: list[float] = []
    newest = 0
    for event in events:
        minute = event.ts_event // MINUTE
        is_new = not isinstance(event, Trade) or event.trade_id not in seen
        if isinstance(event, Trade) and is_new:
            seen.add(event.trade_id)
            if minute >= newest:
                accepted.setdefault(minute, []).append(event)
                signed.append(event.quantity * event.taker_side.value)
                recent = np.array(signed[-MOMENTUM_TRADES:])
                momenta[minute] = recent.sum() / np.abs(recent).sum() if len(recent) == MOMENTUM_TRADES else np.nan
        newest = max(newest, minute) if is_new else newest
    return accepted, momenta


def _trade_columns(trades: Sequence[Trade], previous_close: float) -> list[float]:
    if not trades:
        return [previous_close] * 4 + [0.0] * 4
    by_time = sorted(trades, key=lambda trade: trade.ts_event)
    prices = [trade.price for trade in trades]
    volume, quote = sum(t.quantity for t in trades), sum(t.quantity * t.price for t in trades)
    bought = sum(t.quantity for t in trades if t.taker_side is Side.BUY)
    return [by_time[0].price, max(prices), min(prices), by_time[-1].price, volume, quote, float(len(trades)), bought]


def end_of(events: Sequence[Event]) -> int:
    """Return the end of the newest event's minute, ns."""
    newest = max(event.ts_event for event in events)
    return newest - newest % MINUTE + MINUTE


def streamed(events: Sequence[Event]) -> tuple[list[Bar], dict[int, FloatArray], FeatureState]:
    """Return the minutes, the rows of the three timeframes after each of them by close time, and the state at the end."""
    symbol = events[0].symbol
    builder, book, state = CandleBuilder(symbol), OrderBook(symbol), FeatureState(symbol)
    minutes: list[Bar] = []
    rows: dict[int, FloatArray] = {}

    def take(bars: list[Bar]) -> None:
        for bar in bars:
            state.on_bar(bar)
            rows[bar.close_time] = state.latest()
            if bar.timeframe is Timeframe.M1:
                minutes.append(bar)

    for event in events:
        if isinstance(event, Trade):
            take(builder.on_trade(event))
        else:
            book.apply(event)
            take(builder.on_book(book, event.ts_event))
    take(builder.advance(end_of(events)))
    return minutes, rows, state
