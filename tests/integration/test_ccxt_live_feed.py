"""The desk's own feed on a ccxt venue: history, the minute of the connection, the minutes after it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path

import pytest

from actors import repair as module
from actors.feed import LiveFeed
from helios.domain.enums import MarketKind, Timeframe
from helios.domain.market import Bar
from helios.pipeline.symbol import SymbolState, SymbolStep
from helios.venues.ccxt.client import Endpoint
from helios.venues.ccxt.support import VENUES
from helios.venues.ccxt.venue import CcxtVenue
from tests.support.ccxt_binance import MINUTE_MS, NOW_MS, BinanceMarket, kline
from tests.support.ccxt_server import CcxtServer
from tests.support.peers import spec

BTC = "BTC/USDT"
OPEN_MS = NOW_MS // MINUTE_MS * MINUTE_MS


async def test_a_live_feed_learns_connects_and_builds_candles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HISTORY_BARS", {Timeframe.M15: 2, Timeframe.M5: 4, Timeframe.M1: 20})
    market = BinanceMarket(OPEN_MS + 55_000)  # five seconds before the minute ends
    bars: list[Bar] = []

    async def publish(state: SymbolState) -> None:
        step: SymbolStep = state.drain()
        bars.extend(bar for bar in step.bars if bar.timeframe is Timeframe.M1)

    async def nothing_stored(symbol: str) -> dict[Timeframe, list[Bar]]:
        return {}

    async with CcxtServer(market.ask, market.speak) as server:
        venue = CcxtVenue(VENUES["binance"], MarketKind.SPOT, Endpoint(server.rest_url, server.ws_url), rng=random.Random(1))
        state = SymbolState((await venue.instruments())[0], Timeframe.M5)
        feed = LiveFeed(spec(tmp_path, (BTC,)), {BTC: state}, venue, publish, lambda kind, message: None)
        monkeypatch.setattr(feed.repairs, "_stored", nothing_stored)
        tasks = [asyncio.create_task(loop) for loop in (feed.run(), feed.tick(), feed.repair())]
        try:
            async with asyncio.timeout(20.0):
                while not (venue.is_connected and not state.needs_book):  # noqa: ASYNC110 (what the feed has is what is asked)
                    await asyncio.sleep(0.02)
                assert state.last_open(Timeframe.M1) == (OPEN_MS - MINUTE_MS) * 1_000_000
                await market.trade(server, "500.00", "9", T=OPEN_MS + 59_000)  # the venue's candle knows it, not this one
                market.now_ms = OPEN_MS + 61_000
                while not bars:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(asyncio.CancelledError):
                await venue.aclose()
    (bar,) = bars
    expected = [float(v) for v in kline(OPEN_MS, MINUTE_MS)[1:6]]
    assert bar.open_time == OPEN_MS * 1_000_000
    assert [bar.open, bar.high, bar.low, bar.close, bar.volume] == expected
