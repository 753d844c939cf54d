"""The synthetic market by the second: trades and book changes that go on from where a history ended."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, Self

import numpy as np

from helios.domain.enums import Side, Timeframe
from helios.domain.market import BookUpdate, VenueCandle
from helios.venues.sandbox.book import LOT_DECIMALS, BookSide, checksum, decimal_text
from helios.venues.sandbox.macro import (
    ACTIVITY_SIGMA,
    MINUTE_NS,
    MINUTE_SIZE_SIGMA,
    MINUTES_PER_DAY,
    SHARED_FACTORS,
    SHARED_STAY_MIN,
    SIZE_SIGMA,
    FloatArray,
    MacroState,
    activity_of_day,
    buy_probability,
    decay,
    flow_of,
    leaving_probabilities,
    mean_imbalance,
    minute_volatility,
    next_regime,
    spread_of,
    trade_rate,
    unit_noise,
)
from helios.venues.sandbox.specs import MarketConfig, SymbolSpec

SECOND_NS = 1_000_000_000
MS_NS = 1_000_000
LOTS = 100_000_000  # a unit, in steps of 10**-LOT_DECIMALS
STEPS = 60
FIRST_SEQUENCE_ID = 1_368_928_567_986_638_852  # the size of VALR's, beyond what a double holds
REFRESH_PROBABILITY = 0.6  # of one level a side and second
MOVE_THRESHOLD = 0.25  # of the spread: the touch follows the mid only when it is off by more
LEVEL_SIGMA = 0.5  # of the log of a level's size
MIN_TOUCH_SHARE = 0.1  # a trade leaves at least this much of the touch


@dataclass(frozen=True, slots=True)
class TickTrade:
    """A print of the synthetic market, numbers as the venue's strings."""

    symbol: str
    trade_id: str
    sequence_id: int
    price: str
    quantity: str
    taker_side: Side
    ts_event: int


MarketEvent = TickTrade | BookUpdate | VenueCandle
Saved = dict[str, Any]  # JSON values
SAVED_TICKS = ("_log_mid", "sequence", "checksum", "last_change_ns", "last", "_candle", "_volume_lots", "_quote")


@dataclass(frozen=True, slots=True)
class MinutePlan:
    """What a symbol does in one minute: log moves and trade counts per second, and its mood."""

    moves: list[float]
    trades: list[int]
    buy_probability: float
    imbalance: float
    spread_bps: float
    trade_quote: float


class SymbolTicks:
    """One symbol's price, book and open minute.

    Parameters
    ----------
    spec : SymbolSpec
    mid : float
        Mid price at the start.
    random : Random
        Source of all chance in this object.
    """

    def __init__(self, spec: SymbolSpec, mid: float, random: Random, plan: MinutePlan) -> None:
        self.spec = spec
        self._random = random
        self._plan = plan
        self._log_mid = math.log(mid)
        self._tick = float(spec.tick_size)
        self.decimals = max(0, -int(spec.tick_size.as_tuple().exponent))
        self.bids = BookSide(Side.BUY, self.decimals, self._gap, self._bid_lots)
        self.asks = BookSide(Side.SELL, self.decimals, self._gap, self._ask_lots)
        self.sequence = random.randrange(500_000, 1_000_000)
        self.checksum = 0
        self.last_change_ns = 0
        self.last = self._follow()
        self._publish(0)
        self._candle = [self.last, self.last, self.last, self.last]
        self._volume_lots = 0
        self._quote = 0.0

    def saved(self) -> Saved:
        """Return everything the next steps depend on, as JSON values."""
        sides = {name: [side.ticks, side.lots] for name, side in (("bids", self.bids), ("asks", self.asks))}
        return {name: getattr(self, name) for name in SAVED_TICKS} | sides | {"plan": asdict(self._plan)}

    def restore(self, saved: Saved) -> None:
        """Put back what `saved` returned."""
        for name in SAVED_TICKS:
            setattr(self, name, saved[name])
        self.bids.restore(*saved["bids"])
        self.asks.restore(*saved["asks"])
        self._plan = MinutePlan(**saved["plan"])

    @property
    def log_mid(self) -> float:
        """Log of the latent mid price."""
        return self._log_mid

    @property
    def last_price(self) -> str:
        """Price of the last trade."""
        return decimal_text(self.last, self.decimals)

    def begin(self, plan: MinutePlan) -> None:
        """Start a minute."""
        self._plan = plan
        self._candle = [self.last] * 4
        self._volume_lots, self._quote = 0, 0.0

    def step(self, second: int, ts_ns: int, first_id: int) -> Iterator[TickTrade | BookUpdate]:
        """Yield the trades of one second at the known touch, then the book's change."""
        count = self._plan.trades[second]
        for k in range(count):
            yield self._trade(ts_ns + (k + 1) * 900 // (count + 1) * MS_NS, first_id + k)
        self._log_mid += self._plan.moves[second]
        self._follow()
        self._refresh(self.bids)
        self._refresh(self.asks)
        update = self._publish(ts_ns + 950 * MS_NS)
        if update is not None:
            yield update

    def snapshot(self, ts_ns: int) -> BookUpdate:
        """Return the whole book."""
        return BookUpdate(
            self.spec.symbol,
            True,
            self.bids.levels,
            self.asks.levels,
            self.sequence,
            self.checksum,
            self.last_change_ns or ts_ns,
        )

    def close(self, open_ns: int) -> VenueCandle:
        """Return the minute's candle; without a trade all four prices are the last one."""
        open_, high, low, close = (float(decimal_text(ticks, self.decimals)) for ticks in self._candle)
        volume = self._volume_lots / LOTS
        return VenueCandle(
            self.spec.symbol, Timeframe.M1, open_ns, open_, high, low, close, volume, round(self._quote, 8)
        )  # fmt: skip

    def _trade(self, ts_ns: int, sequence_id: int) -> TickTrade:
        random = self._random
        buys = random.random() < self._plan.buy_probability
        side = self.asks if buys else self.bids
        ticks, at_touch = side.ticks[0], side.lots[0]
        wanted = self._lots(self._plan.trade_quote, ticks, SIZE_SIGMA)
        left = max(at_touch - wanted, int(MIN_TOUCH_SHARE * at_touch), 1)
        lots = max(at_touch - left, 1)
        side.set_lots(0, left)
        self._record(ticks, lots)
        return TickTrade(
            self.spec.symbol, uuid7(ts_ns // MS_NS, random), sequence_id, decimal_text(ticks, self.decimals),
            decimal_text(lots, LOT_DECIMALS), Side.BUY if buys else Side.SELL, ts_ns,
        )  # fmt: skip

    def _record(self, ticks: int, lots: int) -> None:
        candle = self._candle
        if self._volume_lots == 0:
            candle[:] = [ticks] * 4
        candle[1], candle[2], candle[3] = max(candle[1], ticks), min(candle[2], ticks), ticks
        self._volume_lots += lots
        self._quote += ticks * self._tick * lots / LOTS
        self.last = ticks

    def _follow(self) -> int:
        # Moves both touches to the latent mid when they are too far from it; returns the mid in ticks.
        mid = math.exp(self._log_mid) / self._tick
        half = 0.5e-4 * self._plan.spread_bps * mid
        if self.bids.ticks and abs(mid - 0.5 * (self.bids.ticks[0] + self.asks.ticks[0])) < MOVE_THRESHOLD * 2 * half:
            return round(mid)
        best_bid = max(round(mid - half), 1)
        self.bids.move_to(best_bid)
        self.asks.move_to(max(round(mid + half), best_bid + 1))
        return round(mid)

    def _refresh(self, side: BookSide) -> None:
        random = self._random
        if random.random() < REFRESH_PROBABILITY:
            rank = int(len(side.ticks) * random.random() * random.random())
            lots = self._bid_lots if side is self.bids else self._ask_lots
            side.set_lots(rank, lots(side.ticks[rank], rank))

    def _publish(self, ts_ns: int) -> BookUpdate | None:
        bids, asks = self.bids.take_changes(), self.asks.take_changes()
        if not bids and not asks:
            return None
        self.sequence += 1
        self.checksum = checksum(self.bids.levels, self.asks.levels)
        self.last_change_ns = ts_ns
        return BookUpdate(self.spec.symbol, False, bids, asks, self.sequence, self.checksum, ts_ns)

    def _gap(self) -> int:
        mid = math.exp(self._log_mid) / self._tick
        return 1 + int(self._random.random() * 2e-4 * mid)

    def _bid_lots(self, ticks: int, rank: int) -> int:
        return self._lots(self.spec.level_quote * (1.0 + self._plan.imbalance), ticks, LEVEL_SIGMA)

    def _ask_lots(self, ticks: int, rank: int) -> int:
        return self._lots(self.spec.level_quote * (1.0 - self._plan.imbalance), ticks, LEVEL_SIGMA)

    def _lots(self, mean_quote: float, ticks: int, sigma: float) -> int:
        size = math.exp(sigma * self._random.gauss(0.0, 1.0) - 0.5 * sigma * sigma)
        return max(round(mean_quote * size / (ticks * self._tick) * LOTS), 100)


class TickMarket:
    """Goes on second by second from a history's end; equal arguments give equal events.

    Parameters
    ----------
    state : MacroState
        End of a history.
    seed : int
    """

    def __init__(self, state: MacroState, seed: int) -> None:
        self.config = state.config
        self._rng = np.random.default_rng([seed, 2])
        self._random = Random(seed * 1_000_003 + 2)
        self.time_ns = state.time_ns
        self._second = 0
        self._trade_number = FIRST_SEQUENCE_ID
        self._regimes, self._shared = state.regimes.copy(), state.shared_regime
        self._slow, self._fast, self._common = state.slow.copy(), state.fast.copy(), state.common.copy()
        plans = self._plan_minute(state.mids)
        self.symbols = {
            spec.symbol: SymbolTicks(spec, float(state.mids[i]), self._random, plans[i]) for i, spec in enumerate(self.config.specs)
        }
        self._in_order = list(self.symbols.values())

    @property
    def specs(self) -> tuple[SymbolSpec, ...]:
        """What is traded."""
        return self.config.specs

    def saved(self) -> Saved:
        """Return the whole state, random generators included, as JSON values: a restored market makes the same events."""
        return {
            "time_ns": self.time_ns, "second": self._second, "trade_number": self._trade_number,
            "numpy_random": self._rng.bit_generator.state, "python_random": self._random.getstate(),
            "regimes": self._regimes.tolist(), "shared_regime": self._shared,
            "slow": self._slow.tolist(), "fast": self._fast.tolist(), "common": self._common.tolist(),
            "symbols": [ticks.saved() for ticks in self._in_order],
        }  # fmt: skip

    @classmethod
    def restored(cls, config: MarketConfig, seed: int, saved: Saved) -> Self:
        """Return the market that `saved` describes; KeyError, TypeError or ValueError if it does not describe one."""
        n = len(config.symbols)
        slow, fast = np.array(saved["slow"]).reshape(n), np.array(saved["fast"]).reshape(n)
        regimes, common = np.array(saved["regimes"], dtype=np.int64).reshape(n), np.array(saved["common"]).reshape(2)
        mids = np.exp([symbol["_log_mid"] for symbol in saved["symbols"]])
        state = MacroState(config, saved["time_ns"], mids, regimes, saved["shared_regime"], slow, fast, common)
        market = cls(state, seed)
        market._resume(saved, state)
        return market

    def _resume(self, saved: Saved, state: MacroState) -> None:
        # The constructor has begun a minute of its own, which moved the flow and both generators.
        self._second, self._trade_number = saved["second"], saved["trade_number"]
        self._regimes, self._shared = state.regimes, state.shared_regime
        self._slow, self._fast, self._common = state.slow, state.fast, state.common
        for ticks, symbol in zip(self._in_order, saved["symbols"], strict=True):
            ticks.restore(symbol)
        version, internal, gauss_next = saved["python_random"]
        self._random.setstate((version, tuple(internal), gauss_next))
        self._rng.bit_generator.state = saved["numpy_random"]

    def step(self) -> list[MarketEvent]:
        """Advance one second of market time; a minute's last step ends with its candles."""
        events: list[MarketEvent] = []
        for ticks in self._in_order:
            before = len(events)
            events.extend(ticks.step(self._second, self.time_ns, self._trade_number))
            self._trade_number += len(events) - before
        self.time_ns += SECOND_NS
        self._second += 1
        if self._second == STEPS:
            self._second = 0
            events.extend(ticks.close(self.time_ns - MINUTE_NS) for ticks in self._in_order)
            plans = self._plan_minute(np.exp([ticks.log_mid for ticks in self._in_order]))
            for ticks, plan in zip(self._in_order, plans):
                ticks.begin(plan)
        return events

    def _plan_minute(self, mids: FloatArray) -> list[MinutePlan]:
        config, rng, n = self.config, self._rng, len(self.config.symbols)
        _, before = flow_of(config, self._slow, self._fast, self._common)
        self._advance()
        _, flow = flow_of(config, self._slow, self._fast, self._common)
        sigma = minute_volatility(config)[self._regimes] * SHARED_FACTORS[self._shared]
        relative = sigma / minute_volatility(config)[1]
        drift = config.kappa * config.flow_strength * before / STEPS
        moves = sigma * (drift + unit_noise(rng, config, STEPS) / math.sqrt(STEPS))
        of_day = activity_of_day(np.array(self.time_ns // MINUTE_NS % MINUTES_PER_DAY, dtype=np.float64))
        rate = trade_rate(relative, of_day) * np.exp(ACTIVITY_SIGMA * rng.standard_normal(n))
        counts = rng.poisson(rate / STEPS, (STEPS, n))
        size = np.exp(MINUTE_SIZE_SIGMA * rng.standard_normal(n))
        buys, imbalance = buy_probability(flow), mean_imbalance(flow)
        return [
            MinutePlan(
                moves[:, i].tolist(), counts[:, i].tolist(), float(buys[i]), float(imbalance[i]),
                float(spread_of(spec, relative[i], mids[i])) * math.exp(0.1 * self._random.gauss(0.0, 1.0)),
                spec.trade_quote * float(size[i]),
            )
            for i, spec in enumerate(config.specs)
        ]  # fmt: skip

    def _advance(self) -> None:
        # One minute of regimes and flow, by the laws of the history.
        config, rng, n = self.config, self._rng, len(self.config.symbols)
        matrix = leaving_probabilities(config.stay_minutes)
        self._regimes = np.array([next_regime(matrix, int(r), float(u)) for r, u in zip(self._regimes, rng.random(n))])
        self._shared = next_regime(leaving_probabilities(SHARED_STAY_MIN), self._shared, float(rng.random()))
        slow, fast = decay(config.slow_half_life_min), decay(config.fast_half_life_min)
        self._slow = slow * self._slow + math.sqrt(1 - slow * slow) * rng.standard_normal(n)
        self._fast = fast * self._fast + math.sqrt(1 - fast * fast) * rng.standard_normal(n)
        phi = np.array([slow, fast])
        self._common = phi * self._common + np.sqrt(1 - phi * phi) * rng.standard_normal(2)


def uuid7(ms: int, random: Random) -> str:
    """Return a UUID of version 7 for a time in ms."""
    text = f"{ms:012x}7{random.getrandbits(12):03x}{0x8000 | random.getrandbits(14):04x}{random.getrandbits(48):012x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
