"""What subscribers get: frames of market events, and the present state of a channel."""

from __future__ import annotations

from collections.abc import Container

from helios.domain.market import BookUpdate, Level
from helios.venues.sandbox import wire
from helios.venues.sandbox.exchange import Exchange
from helios.venues.sandbox.orders import OrderBook
from helios.venues.sandbox.subscriptions import Channel
from helios.venues.sandbox.ticks import MarketEvent, TickTrade

Frames = list[tuple[Channel, bytes]]


class Broadcast:
    """Turns what the exchange does into frames.

    Parameters
    ----------
    exchange : Exchange
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._orders: dict[str, OrderBook] = {}  # of pairs somebody asked for
        self._tops: dict[Channel, tuple[tuple[Level, ...], tuple[Level, ...]]] = {}

    def orders(self, pair: str) -> OrderBook:
        """Return the order-level book, made when first asked for and kept from then on."""
        if pair not in self._orders:
            self._orders[pair] = OrderBook(pair, self._exchange.book(pair))
        return self._orders[pair]

    def frames(self, events: list[MarketEvent], wanted: Container[Channel]) -> Frames:
        """Return the frames of what one step did, in order, of the wanted channels; call for every step."""
        found: Frames = []
        for event in events:
            pair = self._exchange.pair_of(event.symbol)
            if isinstance(event, BookUpdate):
                found.extend(self._book(pair, event, wanted))
            elif isinstance(event, TickTrade):
                if (wire.NEW_TRADE, pair) in wanted:
                    found.append(((wire.NEW_TRADE, pair), wire.trade_frame(pair, event)))
            elif (wire.NEW_TRADE_BUCKET, pair) in wanted:
                found.append(((wire.NEW_TRADE_BUCKET, pair), wire.bucket_frame(pair, event)))
        return found

    def present(self, channel: Channel) -> bytes | None:
        """Return what a new subscriber gets at once; trades and candles are not repeated."""
        event, pair = channel
        if event in wire.DEPTHS:
            return self._depth_frame(channel, self._exchange.book(pair))
        if event == wire.OB_L1_DIFF:
            return wire.book_frame(pair, self._exchange.book(pair))
        if event == wire.FULL_ORDERBOOK_UPDATE:
            return wire.dump(self.orders(pair).snapshot_frame())
        if event == wire.AGGREGATED_ORDERBOOK_UPDATE:
            return wire.aggregated_frame(pair, self._exchange.book(pair))
        if event == wire.MARKET_SUMMARY_UPDATE:
            return wire.summary_frame(pair, self._exchange.summary(pair))
        if event == wire.MARK_PRICE_UPDATE:
            return wire.mark_price_frame(pair, self._exchange.mark_price(pair))
        return None

    def _book(self, pair: str, update: BookUpdate, wanted: Container[Channel]) -> Frames:
        found: Frames = []
        if (wire.OB_L1_DIFF, pair) in wanted:
            found.append(((wire.OB_L1_DIFF, pair), wire.book_frame(pair, update)))
        message = self._orders[pair].apply(update) if pair in self._orders else None
        if message is not None and (wire.FULL_ORDERBOOK_UPDATE, pair) in wanted:
            found.append(((wire.FULL_ORDERBOOK_UPDATE, pair), wire.dump(message)))
        for event in wire.DEPTHS:
            channel = (event, pair)
            if channel in wanted and self._top(channel, book := self._exchange.book(pair)) != self._tops.get(channel):
                found.append((channel, self._depth_frame(channel, book)))
        return found

    @staticmethod
    def _top(channel: Channel, book: BookUpdate) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
        depth = wire.DEPTHS[channel[0]]
        return book.bids[:depth], book.asks[:depth]

    def _depth_frame(self, channel: Channel, book: BookUpdate) -> bytes:
        bids, asks = self._tops[channel] = self._top(channel, book)
        data = {"lc": book.ts_event // 1_000_000, "a": asks, "b": bids}
        return wire.dump({"type": channel[0], "ps": channel[1], "d": data})
