"""The minutes closed lately, which a late trade or the venue's own candle may still correct.

A bar is given out when its minute ends, because a decision cannot wait for stragglers. What arrives afterwards is not lost: a late
trade joins its minute, and the venue's candle, where it differs from what we built, is right. Either way the corrected bar is
given out again, marked as a revision, and everything that depends on it is computed anew. A minute that has left the window is
final: later trades for it are counted and dropped.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Final

from helios.domain.enums import Timeframe
from helios.domain.market import Bar, Trade, VenueCandle
from helios.market.minute import MinuteTrades, flat_minute, traded_minute

SETTLING_MINUTES: Final = 30
DOUBTS_ALLOWED: Final = 3  # how often a venue's candle may hold less than the trades we have before it is believed
_VOLUME_TOLERANCE: Final = 1e-9


@dataclass(slots=True)
class _Minute:
    bar: Bar
    trades: MinuteTrades | None  # None: the bar is the venue's own
    is_confirmed: bool = False
    doubts: int = 0


class SettlingMinutes:
    """The newest closed minutes of one symbol, oldest first.

    Parameters
    ----------
    n_minutes : int
        How many stay open to correction.

    Attributes
    ----------
    late_trades : int
        Trades that joined a minute after it was given out.
    confirmed, corrected, doubtful : int
        Minutes that the venue's candle agreed with; minutes it changed; candles not believed because they hold less than the
        trades we have (a cache that lags, an unfinished bucket).
    unchecked : int
        Minutes that became final without the venue's word.
    """

    def __init__(self, n_minutes: int = SETTLING_MINUTES) -> None:
        self._n_minutes = n_minutes
        self._minutes: OrderedDict[int, _Minute] = OrderedDict()
        self.late_trades = self.confirmed = self.corrected = self.doubtful = self.unchecked = 0

    @property
    def unconfirmed(self) -> list[int]:
        """Open times of the minutes that we built and no candle of the venue has confirmed, ns, oldest first."""
        return [open_time for open_time, minute in self._minutes.items() if minute.trades is not None and not minute.is_confirmed]

    def close(self, bar: Bar, trades: MinuteTrades | None) -> None:
        """Take a minute that was just given out, with the trades it was built from; None if it is the venue's own."""
        self._minutes[bar.open_time] = _Minute(bar, trades, is_confirmed=trades is None)
        if len(self._minutes) > self._n_minutes:
            _, final = self._minutes.popitem(last=False)
            self.unchecked += not final.is_confirmed

    def join(self, trade: Trade) -> list[Bar] | None:
        """Add a late trade to its minute.

        Returns
        -------
        revised : list of Bar or None
            The bars that changed, oldest first (a later minute without trades is flat at another price then); None if the
            minute is not ours to change any more.
        """
        minute = self._minutes.get(trade.ts_event - trade.ts_event % Timeframe.M1.ns)
        if minute is None or minute.trades is None:
            return None
        minute.trades.add(trade)
        self.late_trades += 1
        ours = _ours(minute.bar, minute.trades)
        if minute.is_confirmed and math.isclose(minute.bar.volume, minute.trades.volume, rel_tol=_VOLUME_TOLERANCE):
            ours = _with_prices(ours, minute.bar)  # the candle was right before us; the flow is known now
        elif minute.is_confirmed:
            return []
        return self._revise(minute, ours)

    def check(self, candle: VenueCandle) -> list[Bar]:
        """Compare a minute with the venue's own candle and return the bars that change by it, oldest first."""
        minute = self._minutes.get(candle.open_time)
        if minute is None or minute.is_confirmed or minute.trades is None:
            return []
        if _agree(minute.bar, candle):
            minute.is_confirmed = True
            self.confirmed += 1
            return []
        if candle.volume_base < minute.bar.volume * (1.0 - _VOLUME_TOLERANCE) and minute.doubts < DOUBTS_ALLOWED:
            minute.doubts += 1
            self.doubtful += 1
            return []
        minute.is_confirmed = True
        self.corrected += 1
        return self._revise(minute, _venues(minute.bar, candle))

    def _revise(self, minute: _Minute, bar: Bar) -> list[Bar]:
        if repr(bar) == repr(minute.bar):  # NaN equals itself in text
            return []
        has_new_close = bar.close != minute.bar.close
        minute.bar = bar
        return [bar, *(self._flatten_after(bar) if has_new_close else [])]

    def _flatten_after(self, bar: Bar) -> list[Bar]:
        # Minutes without trades that follow were flat at the close that has just changed.
        following = self._minutes.get(bar.close_time)
        if following is None or following.trades is None or following.trades.count or following.is_confirmed:
            return []
        price = bar.close
        return self._revise(following, replace(following.bar, open=price, high=price, low=price, close=price))


def _ours(bar: Bar, trades: MinuteTrades) -> Bar:
    """Return the bar of `trades` with the book columns of `bar`."""
    built = traded_minute(bar.symbol, bar.open_time, trades)
    return _with_book(built, bar)


def _venues(bar: Bar, candle: VenueCandle) -> Bar:
    """Return the venue's candle with the book columns of `bar`; who traded is known only if the volume agrees."""
    built = flat_minute(bar.symbol, bar.open_time, candle.close, is_observed=False)
    built = replace(
        built, open=candle.open, high=candle.high, low=candle.low, volume=candle.volume_base, quote_volume=candle.volume_quote
    )
    if math.isclose(bar.volume, candle.volume_base, rel_tol=_VOLUME_TOLERANCE):
        quote = bar.quote_volume if math.isnan(candle.volume_quote) else candle.volume_quote
        built = replace(built, quote_volume=quote, trade_count=bar.trade_count, buy_volume=bar.buy_volume)
    return _with_book(built, bar)


def _agree(bar: Bar, candle: VenueCandle) -> bool:
    prices = (candle.open, candle.high, candle.low, candle.close) == (bar.open, bar.high, bar.low, bar.close)
    return prices and math.isclose(bar.volume, candle.volume_base, rel_tol=_VOLUME_TOLERANCE, abs_tol=1e-12)


def _with_book(built: Bar, known: Bar) -> Bar:
    return replace(
        built,
        spread_bps=known.spread_bps,
        book_imbalance=known.book_imbalance,
        depth_log=known.depth_log,
        trade_momentum=known.trade_momentum,
        microprice_bps=known.microprice_bps,
    )


def _with_prices(built: Bar, known: Bar) -> Bar:
    return replace(
        built,
        open=known.open,
        high=known.high,
        low=known.low,
        close=known.close,
        volume=known.volume,
        quote_volume=known.quote_volume,
    )
