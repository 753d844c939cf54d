"""The feed: VALR's socket frames to an updated book, candles and features, as a symbol's owner does it, on one core."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import orjson

from helios.cli.contest import Contest, Sizes, Work
from helios.cli.contests import SEED, book_updates
from helios.domain.enums import Side
from helios.domain.market import BookUpdate, Instrument, Trade
from helios.pipeline.symbol import SymbolState
from helios.venues.valr.codec import decode_event
from helios.venues.valr.events import ValrEvent

PAIR, SYMBOL = "BTCZAR", "BTC/ZAR"
INSTRUMENT = Instrument(SYMBOL, "BTC", "ZAR", "valr", PAIR)
START_MS = 1_790_133_240_000
FRAME_MS = 4  # between two frames: 250 a second, so that 60,000 frames are four minutes
TRADE_EVERY = 5


def feed(sizes: Sizes) -> list[Contest]:
    """Every frame of the socket, one trade in five, the rest book diffs with checksums of which each changes one to three levels."""
    frames = feed_frames(sizes.frames * 3)
    note = "decode, verify sequence and checksum, book, candles of five timeframes, exits, 30 features at each close"
    return [Contest("frames to book, candles, features", "per s", len(frames), _through(frames), note=note)]


def feed_frames(n_frames: int) -> list[bytes]:
    """Return a book snapshot, then diffs and trades in the venue's form, `FRAME_MS` apart, each diff with its checksum."""
    rng = np.random.default_rng(SEED)
    updates = iter(book_updates(n_frames))
    return [_trade(rng, i) if i % TRADE_EVERY == TRADE_EVERY - 1 else _book(next(updates), i) for i in range(n_frames)]


def _through(frames: list[bytes]) -> Work:
    def ours() -> None:
        state, symbols = SymbolState(INSTRUMENT), {PAIR: SYMBOL}
        for frame in frames:
            _apply(state, decode_event(frame, symbols, 0))
            if state.has_news:
                state.drain()
        assert state.book.is_synced

    return ours


def _apply(state: SymbolState, event: ValrEvent) -> None:
    if isinstance(event, BookUpdate):
        state.on_book(event)
    elif isinstance(event, Trade):
        state.on_trade(event)


def _book(update: BookUpdate, i: int) -> bytes:
    kind = "OB_L1_SNAPSHOT" if update.is_snapshot else "OB_L1_DIFF"
    body = {"lc": START_MS + i * FRAME_MS, "a": update.asks, "b": update.bids, "sq": update.sequence, "cs": update.checksum}
    return orjson.dumps({"type": kind, "ps": PAIR, "d": body})


def _trade(rng: np.random.Generator, i: int) -> bytes:
    at = datetime.fromtimestamp((START_MS + i * FRAME_MS) / 1e3, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    side = Side.BUY if rng.random() < 0.5 else Side.SELL
    data = {
        "price": str(1_700_000 + side.value), "quantity": f"{rng.exponential(0.2) + 1e-8:.8f}", "currencyPair": PAIR,
        "tradedAt": at, "takerSide": side.name.lower(), "id": f"trade-{i}",
    }  # fmt: skip
    return orjson.dumps({"type": "NEW_TRADE", "currencyPairSymbol": PAIR, "data": data})
