"""The breakers: what has tripped, what it forbids, and what lets it go again.

`check_limits` looks at one order and one moment; a breaker remembers. One table says of every breaker how far it goes and how it
resets. The board is driven by account snapshots alone and reads no clock, so that live trading, a replay and a backtest trip at
the same events. After a restart `from_json` brings it back as it was.

A value that is not known (a late snapshot, a NaN ratio) neither trips a breaker nor releases one that has tripped; an account
whose own figures are not numbers trips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from types import MappingProxyType

from helios.config import LimitConfig
from helios.domain.enums import Timeframe, TradingMode, TradingState
from helios.domain.orders import AccountSnapshot
from helios.errors import RejectedError
from helios.risk.account_limits import consecutive_loss_limit, daily_loss_of, daily_loss_quote, drawdown_of, fall, has_equity
from helios.risk.trips import BoardState, ResetRule, Trip, TripCode, dump_state, load_state

NS_PER_S = 1_000_000_000
NS_PER_DAY = Timeframe.D1.ns
_SEVERITY = tuple(TradingState)
_DAILY = (ResetRule.NEXT_DAY, ResetRule.NEXT_DAY_OR_WIN)
_NO_RATIOS: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Reading:
    """What a breaker sees. `is_broken` None: not known, or between release and trip; leaves the breaker as it is."""

    is_broken: bool | None
    value: float
    limit: float


@dataclass(frozen=True, slots=True)
class _Seen:
    """One look: the account (None if it is older than one seen before) and what surrounds it."""

    account: AccountSnapshot | None
    now_ns: int
    account_age_s: float
    drawdown: Decimal
    n_trades: int
    unhealthy: tuple[str, ...]
    limits: LimitConfig
    mode: TradingMode


@dataclass(frozen=True, slots=True)
class Breaker:
    """One row of the table: what is measured, how far a trip goes, and what resets it."""

    code: TripCode
    state: TradingState
    reset_rule: ResetRule
    reason: str
    read: Callable[[_Seen], Reading]


def _equity(seen: _Seen) -> Reading:
    if seen.account is None:
        return Reading(None, float("nan"), 0.0)
    return Reading(not has_equity(seen.account), float(seen.account.equity_quote), 0.0)


def _drawdown(seen: _Seen) -> Reading:
    if seen.account is None:
        return Reading(None, float("nan"), seen.limits.max_drawdown)
    return Reading(not seen.drawdown < _exact(seen.limits.max_drawdown), float(seen.drawdown), seen.limits.max_drawdown)


def _daily_loss(seen: _Seen) -> Reading:
    limit = seen.limits.max_daily_loss
    if seen.account is None:
        return Reading(None, float("nan"), limit)
    loss = daily_loss_of(seen.account)
    return Reading(not loss < _exact(limit), float(loss), limit)


def _money_loss(seen: _Seen) -> Reading:
    limit = seen.limits.max_daily_loss_quote
    if seen.account is None:
        return Reading(None, float("nan"), float(limit))
    loss = daily_loss_quote(seen.account)
    return Reading(limit > 0 and not loss < limit, float(loss), float(limit))


def _loss_row(seen: _Seen) -> Reading:
    limit = consecutive_loss_limit(seen.limits, seen.mode)
    if seen.account is None:
        return Reading(None, float("nan"), float(limit))
    row = seen.account.consecutive_losses
    return Reading(row >= limit, float(row), float(limit))


def _frequency(seen: _Seen) -> Reading:
    limit = seen.limits.max_trades_in_window
    return Reading(seen.n_trades > limit, float(seen.n_trades), float(limit))


def _health(seen: _Seen) -> Reading:
    limit, n = seen.limits.max_unhealthy, len(seen.unhealthy)
    return Reading(n >= limit, float(n), float(limit))


def _age(seen: _Seen) -> Reading:
    limit = seen.limits.max_account_age_s
    return Reading(seen.account_age_s > limit, seen.account_age_s, limit)


_HALTED, _REDUCING = TradingState.HALTED, TradingState.REDUCING
BREAKERS: tuple[Breaker, ...] = (
    Breaker(TripCode.EQUITY_NOT_POSITIVE, _HALTED, ResetRule.MANUAL, "the account is worth nothing", _equity),
    Breaker(TripCode.MAX_DRAWDOWN, _HALTED, ResetRule.MANUAL_OR_COOLDOWN, "max drawdown exceeded", _drawdown),
    Breaker(TripCode.MAX_DAILY_LOSS, _REDUCING, ResetRule.NEXT_DAY, "max daily loss exceeded", _daily_loss),
    Breaker(TripCode.MAX_DAILY_LOSS_QUOTE, _REDUCING, ResetRule.NEXT_DAY, "the day's loss in money", _money_loss),
    Breaker(TripCode.MAX_CONSECUTIVE_LOSSES, _REDUCING, ResetRule.NEXT_DAY_OR_WIN, "too many losses in a row", _loss_row),
    Breaker(TripCode.TRADE_FREQUENCY, _REDUCING, ResetRule.COOLDOWN, "too many trades in the window", _frequency),
    Breaker(TripCode.COMPONENTS_UNHEALTHY, _REDUCING, ResetRule.WHILE, "components are unhealthy", _health),
    Breaker(TripCode.ACCOUNT_STALE, _REDUCING, ResetRule.WHILE, "the account is too old to judge by", _age),
)
VOLATILITY = Breaker(
    TripCode.VOLATILITY_BREAKER, TradingState.ACTIVE, ResetRule.HYSTERESIS, "volatility far above its mean",
    lambda seen: Reading(None, float("nan"), seen.limits.max_volatility_ratio),
)  # fmt: skip
"""Blocks entries in one symbol and leaves the account's state alone; its readings are the ratios by symbol."""
_BY_CODE = {breaker.code: breaker for breaker in (*BREAKERS, VOLATILITY)}


class BreakerBoard:
    """All breakers of one account.

    A drawdown that was reset, by hand or after `auto_reset_h`, is measured from the equity at the reset: whoever receives that
    release must rebase the account's peak (`Account.rebase_peak`), because the limits before each order and `trading_state`
    go by the account and refuse entries until then. Until the account shows another peak the board keeps its own.

    Parameters
    ----------
    limits : LimitConfig
    mode : TradingMode, default=PAPER
        LIVE tolerates fewer losses in a row.

    Notes
    -----
    Order of calls: `observe` with every account snapshot, as often as you like; the same input again gives no event. Times never
    run backward inside: an earlier `now_ns` counts as the latest seen, an account older than one seen is left out.
    """

    def __init__(self, limits: LimitConfig, mode: TradingMode = TradingMode.PAPER) -> None:
        self._limits = limits
        self._mode = mode
        self._kept = BoardState()
        self._unhealthy: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, text: str | bytes, limits: LimitConfig, mode: TradingMode = TradingMode.PAPER) -> BreakerBoard:
        """Return the board that `to_json` wrote.

        Raises
        ------
        DataError
            If it is not JSON of this version; go on with `unreadable`, which stays halted until a person has looked.
        """
        board = cls(limits, mode)
        board._kept = load_state(text)
        return board

    @classmethod
    def unreadable(cls, detail: str, now_ns: int, limits: LimitConfig, mode: TradingMode = TradingMode.PAPER) -> BreakerBoard:
        """Return a board that is HALTED because what it knew is lost, until a person resets it."""
        board = cls(limits, mode)
        code = TripCode.STATE_UNREADABLE
        board._kept.trips[code.value] = Trip(code, _HALTED, detail, float("nan"), float("nan"), now_ns, ResetRule.MANUAL)
        return board

    def to_json(self) -> str:
        """Return everything that must outlive a restart."""
        return dump_state(self._kept)

    def set_mode(self, mode: TradingMode) -> None:
        """Follow the engine's trading mode from the next observation on."""
        self._mode = mode

    @property
    def trips(self) -> tuple[Trip, ...]:
        """What has tripped and not been released, oldest first."""
        return tuple(sorted(self._kept.trips.values(), key=lambda trip: (trip.tripped_at, trip.key)))

    @property
    def state(self) -> TradingState:
        """The worst that the open trips demand."""
        return max((trip.state for trip in self._kept.trips.values()), key=_SEVERITY.index, default=TradingState.ACTIVE)

    def observe(
        self,
        account: AccountSnapshot,
        now_ns: int,
        volatility_ratios: Mapping[str, float] = _NO_RATIOS,
        unhealthy: Sequence[str] = (),
    ) -> tuple[Trip, ...]:
        """Judge everything anew; return what has tripped and what was released (`released_at` above 0) by it.

        Parameters
        ----------
        now_ns : int
            Market time, ns UTC: the clock of the account's `ts_event`.
        volatility_ratios : mapping
            Present volatility over its mean, by symbol; NaN and missing ones leave the symbol as it is.
        unhealthy : sequence of str
            Names of the components that do not answer.
        """
        self._unhealthy = tuple(sorted(set(unhealthy)))
        seen = self._look(account, now_ns)
        events = [*self._cooled_down(seen)]
        if events:
            seen = self._seen(seen.account, now_ns)  # the drawdown counts from here
        for breaker in BREAKERS:
            events += self._judge(breaker, "", breaker.read(seen), seen)
        for symbol in sorted(self._worth_judging(volatility_ratios)):
            events += self._judge(VOLATILITY, symbol, self._volatility(volatility_ratios[symbol]), seen)
        return tuple(events)

    def reset(self, code: str | None, now_ns: int, account: AccountSnapshot) -> tuple[Trip, ...]:
        """Release by a person's hand what has tripped under `code`, or everything (None); return what was released.

        Only what no longer holds is released: a day's loss is not undone by a click. The drawdown starts anew from the present
        equity, the count of trades from zero. `account` is the newest the caller has, and is taken as it is.

        Raises
        ------
        RejectedError
            If there is no breaker of that code.
        """
        if code is not None and code not in TripCode.__members__:
            raise RejectedError(f"unknown breaker {code}; one of {', '.join(TripCode.__members__)}")
        chosen = [trip for trip in self.trips if code in (None, trip.code.value)]
        self._look(account, now_ns)
        codes = {trip.code for trip in chosen}
        if TripCode.MAX_DRAWDOWN in codes:
            self._rebase(account)
        if TripCode.TRADE_FREQUENCY in codes:
            self._kept.trade_times.clear()
        seen = self._seen(account, now_ns)
        return tuple(self._release(trip, seen) for trip in chosen if not self._still_holds(trip, seen))

    def _look(self, account: AccountSnapshot, now_ns: int) -> _Seen:
        kept = self._kept
        is_late = account.ts_event < kept.account_ts
        kept.now_ns = max(kept.now_ns, now_ns)
        if not is_late:
            self._count_trades(account)
            self._follow_peak(account)
            kept.account_ts = account.ts_event
        oldest = kept.now_ns - round(self._limits.trade_window_s * NS_PER_S)
        kept.trade_times = [at for at in kept.trade_times if at > oldest]
        return self._seen(None if is_late else account, now_ns)

    def _seen(self, account: AccountSnapshot | None, now_ns: int) -> _Seen:
        kept = self._kept
        # as old as the oldest price it rests on: other symbols' prices keep the account young, not its worth
        age_s = max(kept.now_ns - kept.account_ts, 0 if account is None else account.mark_age_ns) / NS_PER_S
        drawdown = Decimal(0) if account is None else self._drawdown_of(account)
        return _Seen(account, kept.now_ns, age_s, drawdown, len(kept.trade_times), self._unhealthy, self._limits, self._mode)

    def _count_trades(self, account: AccountSnapshot) -> None:
        # Two witnesses: the day's count, which starts again at midnight, and each symbol's last entry, which survives it.
        kept, day = self._kept, account.ts_event // NS_PER_DAY
        window_ns = round(self._limits.trade_window_s * NS_PER_S)
        since, counted = account.ts_event - window_ns, 0
        if kept.entries is not None and kept.account_ts >= since:  # else the count cannot say which of them fell into the window
            since, counted = kept.account_ts, account.entries_today - (kept.entries[1] if kept.entries[0] == day else 0)
        by_time = sum(since < at <= account.ts_event for _, at in account.last_entry_at)
        kept.trade_times += [account.ts_event] * max(by_time, counted, 0)
        kept.entries = (day, account.entries_today)

    def _follow_peak(self, account: AccountSnapshot) -> None:
        rebased = self._kept.rebased
        if rebased is None or not has_equity(account):
            return
        stale, own = rebased
        is_followed = account.peak_equity_quote != stale  # accounting has rebased too, or risen above the old peak
        self._kept.rebased = None if is_followed else (stale, max(own, account.equity_quote))

    def _drawdown_of(self, account: AccountSnapshot) -> Decimal:
        rebased = self._kept.rebased
        return drawdown_of(account) if rebased is None else fall(rebased[1], account.equity_quote)

    def _rebase(self, account: AccountSnapshot) -> None:
        if has_equity(account) and account.peak_equity_quote.is_finite():
            self._kept.rebased = (account.peak_equity_quote, account.equity_quote)

    def _worth_judging(self, ratios: Mapping[str, float]) -> set[str]:
        # of hundreds of symbols the few that trip now or have tripped
        limit = self._limits.max_volatility_ratio
        blocked = {trip.symbol for trip in self._kept.trips.values()}
        return {symbol for symbol, ratio in ratios.items() if ratio > limit or symbol in blocked}

    def _volatility(self, ratio: float) -> Reading:
        limit = self._limits.max_volatility_ratio
        if ratio > limit:
            return Reading(True, ratio, limit)
        return Reading(False if ratio < limit * self._limits.volatility_release else None, ratio, limit)

    def _cooled_down(self, seen: _Seen) -> list[Trip]:
        trip = self._kept.trips.get(TripCode.MAX_DRAWDOWN.value)
        if trip is None or not 0 < trip.until_ns <= seen.now_ns or seen.account is None or not has_equity(seen.account):
            return []
        self._rebase(seen.account)
        return [self._release(trip, seen)]

    def _judge(self, breaker: Breaker, symbol: str, reading: Reading, seen: _Seen) -> list[Trip]:
        key = f"{breaker.code.value}:{symbol}" if symbol else breaker.code.value
        trip = self._kept.trips.get(key)
        if trip is None:
            return [self._trip(key, breaker, symbol, reading, seen)] if reading.is_broken else []
        if reading.is_broken is False and self._may_release(trip, seen):
            return [self._release(trip, seen)]
        if reading.is_broken and trip.reset_rule in _DAILY:
            # held over midnight, or broken again on the new day: the new day is over at its own end
            self._kept.trips[key] = replace(trip, until_ns=max(trip.until_ns, _until(breaker, seen)))
        return []

    def _may_release(self, trip: Trip, seen: _Seen) -> bool:
        if trip.reset_rule in (ResetRule.MANUAL, ResetRule.MANUAL_OR_COOLDOWN):
            return False
        is_timed = trip.reset_rule in (ResetRule.NEXT_DAY, ResetRule.COOLDOWN)
        return not is_timed or seen.now_ns >= trip.until_ns

    def _still_holds(self, trip: Trip, seen: _Seen) -> bool:
        breaker = _BY_CODE.get(trip.code)
        return breaker is not None and breaker.read(seen).is_broken is True

    def _trip(self, key: str, breaker: Breaker, symbol: str, reading: Reading, seen: _Seen) -> Trip:
        where = f"{symbol}: " if symbol else ""
        who = f" ({', '.join(seen.unhealthy)})" if breaker.code is TripCode.COMPONENTS_UNHEALTHY else ""
        detail = f"{where}{breaker.reason}: {reading.value:.6g} against {reading.limit:.6g}{who}"
        trip = Trip(
            breaker.code, breaker.state, detail, reading.value, reading.limit, seen.now_ns, breaker.reset_rule,
            _until(breaker, seen), symbol,
        )  # fmt: skip
        self._kept.trips[key] = trip
        return trip

    def _release(self, trip: Trip, seen: _Seen) -> Trip:
        del self._kept.trips[trip.key]
        return replace(trip, released_at=max(seen.now_ns, 1))


def _until(breaker: Breaker, seen: _Seen) -> int:
    limits = seen.limits
    if breaker.reset_rule in _DAILY:
        at = seen.now_ns if seen.account is None else seen.account.ts_event
        return (at // NS_PER_DAY + 1) * NS_PER_DAY
    if breaker.reset_rule is ResetRule.COOLDOWN:
        return seen.now_ns + round(limits.trade_cooldown_s * NS_PER_S)
    if breaker.reset_rule is ResetRule.MANUAL_OR_COOLDOWN and limits.auto_reset_h > 0:
        return seen.now_ns + round(limits.auto_reset_h * 3_600) * NS_PER_S
    return 0


def _exact(value: float) -> Decimal:
    return Decimal(str(value))
