"""Trades of one minute that make up a given candle."""

from __future__ import annotations

from itertools import pairwise
from random import Random

STEPS = 60
MIN_TRADES, MAX_TRADES = 8, 40


def minute_path(random: Random, prices: list[int], lots: int) -> dict[int, tuple[int, int, bool]]:
    """Return trades whose first, highest, lowest and last price and whose total are those of a candle.

    Parameters
    ----------
    random : Random
    prices : list of int
        Open, high, low and close in ticks, low <= open, close <= high.
    lots : int
        Volume, at least 4 unless the four prices are one.

    Returns
    -------
    trades : dict of int to (int, int, bool)
        Price in ticks, lots and whether the taker buys, by second of the minute; at most one a second.
    """
    open_, high, low, close = prices
    count = min(random.randint(MIN_TRADES, MAX_TRADES), lots)
    seconds = sorted(random.sample(range(STEPS), count))
    path = _prices(random, open_, high, low, close, count)
    sizes = split(random, lots, count)
    trades: dict[int, tuple[int, int, bool]] = {}
    before = open_
    for second, price, size in zip(seconds, path, sizes, strict=True):
        buys = price > before or (price == before and random.random() < 0.5)
        trades[second] = (price, size, buys)
        before = price
    return trades


def split(random: Random, total: int, count: int) -> list[int]:
    """Return `count` whole numbers of at least 1 that add up to `total`, of about lognormal proportions."""
    weights = [random.lognormvariate(0.0, 1.0) for _ in range(count)]
    left, scale = total - count, sum(weights)
    parts = [1 + int(left * weight / scale) for weight in weights]
    parts[-1] += total - sum(parts)
    return parts


def _prices(random: Random, open_: int, high: int, low: int, close: int, count: int) -> list[int]:
    if count < 4:
        return [open_] * count  # one price, see minute_path
    # A rising minute more often falls first and the other way round.
    low_first = random.random() < (0.7 if close >= open_ else 0.3)
    extremes = (low, high) if low_first else (high, low)
    at = sorted(random.sample(range(1, count - 1), 2))
    anchors = [(0, open_), (at[0], extremes[0]), (at[1], extremes[1]), (count - 1, close)]
    path: list[int] = []
    for (i, a), (j, b) in pairwise(anchors):
        path.extend(_between(random, a, b, k / (j - i), low, high) if k else a for k in range(j - i))
    return [*path, close]


def _between(random: Random, a: int, b: int, share: float, low: int, high: int) -> int:
    noise = 0.15 * (high - low) * random.gauss(0.0, 1.0)
    return min(max(round(a + share * (b - a) + noise), low), high)
