"""The works of `helios bench`: what Helios does, and the same done by a library known for it.

A peer that is not installed is left out and said to be. All inputs are synthetic and seeded. Preparing them is not timed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import numpy as np
import orjson

from helios.cli.contest import Contest, Sizes, Work
from helios.domain.decisions import FloatArray
from helios.domain.enums import Timeframe
from helios.domain.market import Bar, BookUpdate, Level
from helios.features.batch import features_with_reference
from helios.features.stream import TimeframeFeatures
from helios.market.book import OrderBook
from helios.venues.valr.codec import decode_frame

SEED = 7
_START_NS = 20_000 * 86_400 * 1_000_000_000
_BAR_NS = Timeframe.M5.ns
_BOOK_LEVELS = 60


def features_stream(sizes: Sizes) -> list[Contest]:
    """One closed candle after the other."""
    rows = _candles(sizes.stream_candles)
    bars = [Bar("X", Timeframe.M1, _START_NS + i * Timeframe.M1.ns, *row) for i, row in enumerate(rows.tolist())]
    closes = rows[:, 3].tolist()

    def ours() -> None:
        features = TimeframeFeatures()
        for bar in bars:
            features.update(bar)

    def theirs(talipp: ModuleType) -> None:
        t = talipp
        nine = (t.RSI(14), t.RSI(7), t.MACD(12, 26, 9), t.SMA(20), t.SMA(50), t.EMA(12), t.EMA(26), t.BB(20, 2), t.StdDev(20))
        for close in closes:
            for indicator in nine:
                indicator.add(close)

    note = (
        "Helios: a whole row of features, all but the correlation with BTC, which is filled where symbols meet;"
        " the peer: nine indicators of the close"
    )
    return [Contest("one closed candle", "us", len(bars), ours, "talipp", with_peer("talipp.indicators", theirs), note)]


def features_batch(sizes: Sizes) -> list[Contest]:
    """A whole history at once."""
    rows = _candles(sizes.batch_candles)
    btc = _candles(sizes.batch_candles, SEED + 1)
    close = np.ascontiguousarray(rows[:, 3])

    def theirs(talib: ModuleType) -> None:
        for period in (14, 7):
            talib.RSI(close, period)
        for period in (20, 50):
            talib.SMA(close, period)
        for period in (12, 26):
            talib.EMA(close, period)
        talib.MACD(close), talib.BBANDS(close, 20), talib.STDDEV(close, 20)

    peer = with_peer("talib", theirs)
    note = "the peer: nine indicators of the close, in C; Helios: all 30 features, correlation with BTC included; one thread each"
    work = f"all 30 features, {len(rows)} candles"
    return [Contest(work, "s", 1, lambda: features_with_reference(rows, btc), "TA-Lib", peer, note)]


def book(sizes: Sizes) -> list[Contest]:
    """The order book, every update verified by its checksum."""
    updates = book_updates(sizes.diffs)

    def ours() -> None:
        kept = OrderBook("BTC/ZAR")
        for update in updates:
            kept.apply(update)

    return [Contest("diffs with checksum", "per s", len(updates) - 1, ours)]


def book_updates(n_diffs: int) -> list[BookUpdate]:
    """Return a snapshot of 60 levels a side and `n_diffs` diffs that follow it, all with their checksums."""
    rng = np.random.default_rng(SEED)
    bids, asks = (tuple(_level(rng, side, depth) for depth in range(_BOOK_LEVELS)) for side in (-1, 1))
    updates = [BookUpdate("BTC/ZAR", True, bids, asks, 1, None, _START_NS)]
    for sequence in range(2, n_diffs + 2):
        changed = tuple(_changes(rng, side) for side in (-1, 1))
        updates.append(BookUpdate("BTC/ZAR", False, changed[0], changed[1], sequence, None, _START_NS + sequence))
    reference = OrderBook("BTC/ZAR")
    return [_with_checksum(reference, update) for update in updates]


def _with_checksum(reference: OrderBook, update: BookUpdate) -> BookUpdate:
    reference.apply(update)
    return replace(update, checksum=reference.checksum())


def _changes(rng: np.random.Generator, side: int) -> tuple[Level, ...]:
    # Mostly near the touch; the best ten are never removed, so that neither side runs empty and the two cannot cross.
    depths = np.minimum(rng.geometric(0.1, rng.integers(1, 4)) - 1, _BOOK_LEVELS - 1).tolist()
    return tuple(_level(rng, side, d, is_removed=d >= 10 and rng.random() < 0.3) for d in depths)


def _level(rng: np.random.Generator, side: int, depth: int, is_removed: bool = False) -> Level:
    return str(1_700_000 + side * (depth + 1)), "0" if is_removed else f"{rng.exponential(0.2) + 1e-8:.8f}"


def decode(sizes: Sizes) -> list[Contest]:
    """Socket frames of VALR: book diffs, trades and summaries, seven to two to one."""
    frames = valr_frames(sizes.frames)
    symbols = {"BTCZAR": "BTC/ZAR"}

    def ours() -> None:
        for frame in frames:
            decode_frame(frame, symbols, _START_NS)

    return [Contest("VALR frames", "per s", len(frames), ours)]


def valr_frames(n_frames: int) -> list[bytes]:
    """Return frames of the pair BTCZAR in the venue's form."""
    rng = np.random.default_rng(SEED)
    make = (*[_diff_frame] * 7, *[_trade_frame] * 2, _summary_frame)
    return [orjson.dumps(make[i % len(make)](rng, i)) for i in range(n_frames)]


def _diff_frame(rng: np.random.Generator, i: int) -> dict[str, object]:
    body = {"lc": 1_790_133_277_857 + i, "a": _changes(rng, 1), "b": _changes(rng, -1), "sq": 900_000 + i, "cs": 4_000_000_000 - i}
    return {"type": "OB_L1_DIFF", "ps": "BTCZAR", "d": body}


def _trade_frame(rng: np.random.Generator, i: int) -> dict[str, object]:
    price, quantity = _level(rng, 1, i % _BOOK_LEVELS)
    side = "buy" if rng.random() < 0.5 else "sell"
    data = {"price": price, "quantity": quantity, "currencyPair": "BTCZAR", "tradedAt": "2026-03-27T12:33:19.918Z", "takerSide": side}
    return {"type": "NEW_TRADE", "currencyPairSymbol": "BTCZAR", "data": data | {"id": f"trade-{i}"}}


def _summary_frame(rng: np.random.Generator, i: int) -> dict[str, object]:
    bid, ask = _level(rng, -1, 0)[0], _level(rng, 1, 0)[0]
    data = {
        "currencyPairSymbol": "BTCZAR", "bidPrice": bid, "askPrice": ask, "lastTradedPrice": bid, "previousClosePrice": bid,
        "highPrice": ask, "lowPrice": bid, "markPrice": bid, "baseVolume": "10.05", "quoteVolume": f"{17_000_000 + i}",
        "created": "2026-03-27T12:33:20.000Z", "changeFromPrevious": "0.97",
    }  # fmt: skip
    return {"type": "MARKET_SUMMARY_UPDATE", "currencyPairSymbol": "BTCZAR", "data": data}


def with_peer(module: str, work: Callable[[ModuleType], object]) -> Work | None:
    """Return `work` on the peer's module, imported here, once, so that importing is not timed; None where it is missing."""
    try:
        found = importlib.import_module(module)
    except ImportError:
        return None
    return lambda: work(found)


def _candles(n_candles: int, seed: int = SEED) -> FloatArray:
    # Columns in the order of BAR_VALUES; every part known.
    rng = np.random.default_rng(seed)
    close = 50_000.0 * np.exp(np.cumsum(rng.standard_normal(n_candles) * 1e-3))
    open_ = np.concatenate(([50_000.0], close[:-1]))
    reach = rng.exponential(5e-4, (2, n_candles))
    high, low = np.maximum(open_, close) * (1 + reach[0]), np.minimum(open_, close) / (1 + reach[1])
    volume = rng.exponential(5.0, n_candles)
    flow = [close * volume, np.ceil(volume * 3), volume * rng.random(n_candles)]
    return np.column_stack([open_, high, low, close, volume, *flow, *rng.random((5, n_candles))])
