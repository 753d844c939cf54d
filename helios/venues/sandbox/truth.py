"""The true minutes: what the generator itself traded, whatever clients were told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from helios.domain.enums import Side
from helios.domain.market import VenueCandle
from helios.venues.sandbox import wire
from helios.venues.sandbox.macro import MINUTE_NS
from helios.venues.sandbox.ticks import MarketEvent, TickTrade

KEPT_MINUTES = 20_160  # 14 days
PLACES = Decimal("1e-8")


@dataclass(slots=True)
class _Minute:
    prices: list[Decimal] = field(default_factory=list)  # open, high, low, close
    volume: Decimal = Decimal(0)
    quote: Decimal = Decimal(0)
    count: int = 0
    bought: Decimal = Decimal(0)

    def add(self, trade: TickTrade) -> None:
        price, quantity = Decimal(trade.price), Decimal(trade.quantity)
        if not self.prices:
            self.prices = [price] * 4
        self.prices[1], self.prices[2], self.prices[3] = max(self.prices[1], price), min(self.prices[2], price), price
        self.volume += quantity
        self.quote += price * quantity
        self.count += 1
        self.bought += quantity if trade.taker_side is Side.BUY else 0


class Truth:
    """Minutes of exact sums over the trades, per pair.

    Parameters
    ----------
    pairs : iterable of (str, str)
        Symbol and the venue's name of it.
    start_ns : int
        Market time of the first trade to come; an open minute's first part is unknown, so the next one is the first kept.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]], start_ns: int) -> None:
        self._pair_of = dict(pairs)
        self._first = -(-start_ns // MINUTE_NS)
        self._open: dict[str, dict[int, _Minute]] = {pair: {} for pair in self._pair_of.values()}
        self._closed: dict[str, dict[int, wire.Json]] = {pair: {} for pair in self._pair_of.values()}

    def take(self, events: Iterable[MarketEvent]) -> None:
        """Take what happened, in order of time; a candle closes its minute."""
        for event in events:
            pair = self._pair_of[event.symbol]
            if isinstance(event, TickTrade):
                self._open[pair].setdefault(event.ts_event // MINUTE_NS, _Minute()).add(event)
            elif isinstance(event, VenueCandle):
                self._close(pair, event.open_time // MINUTE_NS, event)

    def minutes(self, pair: str, start_ns: int, end_ns: int) -> list[wire.Json]:
        """Return the closed minutes with start_ns <= start < end_ns, oldest first."""
        closed = self._closed[pair]
        numbers = range(max(-(-start_ns // MINUTE_NS), self._first), -(-end_ns // MINUTE_NS))
        if len(numbers) > len(closed):
            return [row for number, row in closed.items() if number in numbers]
        return [closed[number] for number in numbers if number in closed]

    def _close(self, pair: str, number: int, candle: VenueCandle) -> None:
        minute = self._open[pair].pop(number, _Minute())
        if number < self._first:
            return
        closed = self._closed[pair]
        if not minute.prices:
            # Without a trade the price is that of the last one; the very first has only the generator's word for it.
            before = closed.get(number - 1)
            minute.prices = [Decimal(before["close"] if before else wire.plain(candle.close))] * 4
        open_, high, low, close = (_text(price) for price in minute.prices)
        closed[number] = {
            "startTime": wire.iso_s(number * MINUTE_NS), "start": number * 60,
            "open": open_, "high": high, "low": low, "close": close,
            "volume": _text(minute.volume), "quoteVolume": _text(minute.quote.quantize(PLACES)),
            "tradeCount": minute.count, "buyVolume": _text(minute.bought),
        }  # fmt: skip
        if len(closed) > KEPT_MINUTES:
            del closed[next(iter(closed))]


def _text(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
