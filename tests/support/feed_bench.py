"""A live feed of one symbol that runs over a scripted venue, and what is said to it."""

from __future__ import annotations

from pathlib import Path

from actors.feed import LiveFeed
from helios.domain.enums import Side, Timeframe
from helios.domain.market import Bar, Instrument, Trade
from helios.pipeline.symbol import SymbolState, SymbolStep
from helios.venues.base import FeedEvent, FeedStatus
from tests.support.peers import spec
from tests.support.pipeline_values import MINUTE_NS, T0
from tests.support.scripted_venue import ScriptedVenue
from tests.support.waiting import turns

BTC = Instrument("BTC/ZAR", "BTC", "ZAR", "test", "BTCZAR")
CONNECTED, DISCONNECTED = FeedStatus("CONNECTED", "", 0), FeedStatus("DISCONNECTED", "cut", 0)


def at(minute: float) -> int:
    return T0 + int(minute * MINUTE_NS)


def trade(minute: float, price: float = 100.0) -> Trade:
    return Trade(BTC.symbol, str(minute), price, 1.0, Side.BUY, at(minute))


class Bench:
    """A feed that runs, ten and a half minutes after T0."""

    def __init__(self, tmp_path: Path) -> None:
        self.venue = ScriptedVenue(at(10.5))
        self.state = SymbolState(BTC, Timeframe.M5)
        self.steps: list[SymbolStep] = []
        self.alerts: list[str] = []
        desk = spec(tmp_path, (BTC.symbol,), **{"desk.candle_close_grace_ms": 0})
        self.feed = LiveFeed(desk, {BTC.symbol: self.state}, self.venue, self.publish, self.alert)  # type: ignore[arg-type]

    def alert(self, kind: str, message: str) -> None:
        self.alerts.append(kind)

    async def publish(self, state: SymbolState) -> None:
        self.steps.append(state.drain())

    async def say(self, *events: FeedEvent) -> None:
        for event in events:
            self.venue.events.put_nowait(event)
        await turns(0.01)

    async def reach(self, minute: float) -> None:
        self.venue.market_clock.set(at(minute))
        await turns(0.15)

    @property
    def revised(self) -> dict[int, Bar]:
        return {(b.open_time - T0) // MINUTE_NS: b for s in self.steps for b in s.revised if b.timeframe is Timeframe.M1}

    @property
    def minutes(self) -> dict[int, Bar]:
        return {(b.open_time - T0) // MINUTE_NS: b for s in self.steps for b in s.bars if b.timeframe is Timeframe.M1}

    def volumes(self) -> dict[int, float]:
        return {index: bar.volume for index, bar in self.minutes.items()}
