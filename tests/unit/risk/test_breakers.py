from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helios.config import LimitConfig
from helios.domain.enums import TradingMode, TradingState
from helios.domain.orders import AccountSnapshot
from helios.errors import DataError, RejectedError
from helios.risk.account_limits import trading_state
from helios.risk.breakers import BREAKERS, VOLATILITY, BreakerBoard
from helios.risk.trips import ResetRule, Trip, TripCode
from tests.unit.risk.builders import account

S = 1_000_000_000
H = 3_600 * S
DAY = 24 * H
T0 = 1_700_000_000 * S // DAY * DAY + 10 * H  # ten in the morning
LIMITS = LimitConfig()


def at(hours: float, equity: str = "100000", **changes: Any) -> tuple[AccountSnapshot, int]:
    ts = T0 + round(hours * H)
    values = {"ts_event": ts, "peak_equity_quote": Decimal(100_000), "day_start_equity_quote": Decimal(100_000)} | changes
    return account(equity, **values), ts


def codes(events: tuple[Trip, ...]) -> list[tuple[str, bool]]:
    return [(event.code.value, event.released_at > 0) for event in events]


def board_after(*looks: tuple[AccountSnapshot, int], limits: LimitConfig = LIMITS) -> BreakerBoard:
    board = BreakerBoard(limits)
    for holder, now in looks:
        board.observe(holder, now)
    return board


def test_a_healthy_account_trips_nothing() -> None:
    board = BreakerBoard(LIMITS)
    assert board.observe(*at(0)) == ()
    assert (board.state, board.trips) == (TradingState.ACTIVE, ())


def test_drawdown_halts_until_a_person_resets_it_and_is_then_measured_from_there() -> None:
    board = BreakerBoard(LIMITS)
    fallen = {"day_start_equity_quote": Decimal(84_500)}
    (trip,) = board.observe(*at(0, "84500", **fallen))
    assert (trip.code, trip.state, trip.reset_rule) == (TripCode.MAX_DRAWDOWN, TradingState.HALTED, ResetRule.MANUAL_OR_COOLDOWN)
    assert (trip.value, trip.limit, trip.until_ns) == (pytest.approx(0.155), 0.15, 0)
    assert "max drawdown exceeded" in trip.detail
    assert board.observe(*at(1, "99000", **fallen)) == ()
    assert board.state is TradingState.HALTED  # the recovery does not count: nobody has looked
    holder, now = at(2, "84500", **fallen)
    assert codes(board.reset("MAX_DRAWDOWN", now, holder)) == [("MAX_DRAWDOWN", True)]
    assert board.observe(holder, now) == ()  # the account still shows the old peak
    assert board.observe(*at(3, "72000", day_start_equity_quote=Decimal(72_000))) == ()  # 14.8 % of 84,500
    again = board.observe(*at(4, "71800", day_start_equity_quote=Decimal(72_000)))
    assert codes(again) == [("MAX_DRAWDOWN", False)]


def test_a_rise_after_the_reset_is_the_new_peak_until_the_account_shows_one() -> None:
    board = board_after(at(0, "84000"))
    holder, now = at(1, "84000")
    board.reset(None, now, holder)
    day = {"day_start_equity_quote": Decimal(90_000)}
    board.observe(*at(26, "95000", **day))
    rebased = at(27, "88000", peak_equity_quote=Decimal(89_000), **day)
    assert board.observe(*rebased) == ()  # accounting has rebased: its peak holds again
    assert board.observe(*at(28, "85600", peak_equity_quote=Decimal(89_000), day_start_equity_quote=Decimal(86_000))) == ()
    (trip,) = board.observe(*at(29, "75000", peak_equity_quote=Decimal(89_000), day_start_equity_quote=Decimal(75_000)))
    assert trip.value == pytest.approx(14 / 89)


def test_a_halt_ends_by_itself_only_where_that_is_configured() -> None:
    fallen = {"day_start_equity_quote": Decimal(80_000)}
    never = board_after(at(0, "80000", **fallen))
    assert never.observe(*at(500, "80000", **fallen)) == ()
    board = board_after(at(0, "80000", **fallen), limits=LimitConfig(auto_reset_h=12))
    assert board.trips[0].until_ns == T0 + 12 * H
    assert board.observe(*at(11.9, "80000", **fallen)) == ()
    assert codes(board.observe(*at(12, "80000", **fallen))) == [("MAX_DRAWDOWN", True)]
    assert board.observe(*at(12, "80000", **fallen)) == ()
    assert board.state is TradingState.ACTIVE


def test_daily_loss_reduces_until_midnight_even_if_it_is_made_good() -> None:
    board = BreakerBoard(LIMITS)
    (trip,) = board.observe(*at(0, "95000"))
    assert (trip.state, trip.until_ns) == (TradingState.REDUCING, T0 + 14 * H)
    assert board.observe(*at(5, "99000")) == ()
    assert board.state is TradingState.REDUCING
    assert codes(board.observe(*at(14, "99000", day_start_equity_quote=Decimal(99_000)))) == [("MAX_DAILY_LOSS", True)]


def test_daily_loss_stays_while_the_new_day_is_known_from_an_old_account_alone() -> None:
    board = BreakerBoard(LIMITS)
    board.observe(*at(13.9, "95000"))
    old, _ = at(13.9, "95000")
    assert board.observe(old, T0 + 14 * H + S) == ()
    assert board.state is TradingState.REDUCING
    held = board.observe(*at(14.5, "90000", day_start_equity_quote=Decimal(95_000)))  # and the new day breaks it too
    assert (held, board.trips[0].until_ns) == ((), T0 + 38 * H)
    assert board.observe(*at(16, "94900", day_start_equity_quote=Decimal(95_000))) == ()


def test_a_row_of_losses_ends_with_a_win_or_the_day() -> None:
    board = BreakerBoard(LIMITS)
    assert codes(board.observe(*at(0, consecutive_losses=5))) == [("MAX_CONSECUTIVE_LOSSES", False)]
    assert board.trips[0].until_ns == T0 + 14 * H
    assert codes(board.observe(*at(1, consecutive_losses=0))) == [("MAX_CONSECUTIVE_LOSSES", True)]
    live = BreakerBoard(LIMITS, TradingMode.LIVE)
    assert codes(live.observe(*at(0, consecutive_losses=3))) == [("MAX_CONSECUTIVE_LOSSES", False)]


def test_volatility_blocks_its_symbol_alone_and_lets_it_go_with_hysteresis() -> None:
    board = BreakerBoard(LIMITS)
    btc, eth = "BTC/USDT", "ETH/USDT"
    assert codes(board.observe(*at(0), {btc: 3.01, eth: 3.0})) == [("VOLATILITY_BREAKER", False)]
    assert ([trip.symbol for trip in board.trips], board.state) == ([btc], TradingState.ACTIVE)
    for ratio in (2.99, 2.71, math.nan):
        assert board.observe(*at(1), {btc: ratio}) == ()
    assert board.observe(*at(1)) == ()  # not told: not known
    assert [trip.symbol for trip in board.trips] == [btc]
    assert codes(board.observe(*at(2), {btc: 2.69})) == [("VOLATILITY_BREAKER", True)]
    assert codes(board.observe(*at(3), {btc: math.inf})) == [("VOLATILITY_BREAKER", False)]


def test_too_many_trades_in_an_hour_cool_down() -> None:
    limits = LimitConfig(max_trades_in_window=3, trade_cooldown_s=1_800)
    board = board_after(at(0), at(0.1, entries_today=3), limits=limits)
    assert board.state is TradingState.ACTIVE
    (trip,) = board.observe(*at(0.5, entries_today=4))
    assert (trip.code, trip.value, trip.until_ns) == (TripCode.TRADE_FREQUENCY, 4.0, T0 + H)
    assert board.observe(*at(1.05, entries_today=4)) == ()  # cooled down, but four are still within the hour
    assert codes(board.observe(*at(1.2, entries_today=4))) == [("TRADE_FREQUENCY", True)]


def test_trades_are_counted_over_midnight_and_after_a_restart_without_memory() -> None:
    limits = LimitConfig(max_trades_in_window=3)
    before = tuple((f"S{i}", T0 + round(13.9 * H) + i) for i in range(4))
    board = board_after(at(13.5, entries_today=9), limits=limits)
    assert codes(board.observe(*at(14.1, entries_today=0, last_entry_at=before))) == [("TRADE_FREQUENCY", False)]
    fresh = BreakerBoard(limits)
    assert codes(fresh.observe(*at(14.1, last_entry_at=before))) == [("TRADE_FREQUENCY", False)]
    later = BreakerBoard(limits)
    later.observe(account(ts_event=0), 0)  # before the first mark
    assert later.observe(*at(5, entries_today=19)) == ()  # the day's count does not say when


def test_ten_positions_opened_at_once_are_no_alarm() -> None:
    board = board_after(at(0))
    assert board.observe(*at(0.01, entries_today=LIMITS.max_open_positions)) == ()


def test_two_unhealthy_components_reduce_while_they_are() -> None:
    board = BreakerBoard(LIMITS)
    assert board.observe(*at(0), unhealthy=["feed", "feed"]) == ()
    (trip,) = board.observe(*at(0), unhealthy=["signal", "feed"])
    assert (trip.state, "(feed, signal)" in trip.detail) == (TradingState.REDUCING, True)
    assert codes(board.observe(*at(0), unhealthy=["feed"])) == [("COMPONENTS_UNHEALTHY", True)]


def test_an_old_account_reduces_until_a_new_one_comes() -> None:
    holder, now = at(0)
    board = BreakerBoard(LIMITS)
    assert board.observe(holder, now + 1_800 * S) == ()
    assert codes(board.observe(holder, now + 1_801 * S)) == [("ACCOUNT_STALE", False)]
    assert codes(board.observe(*at(0.6))) == [("ACCOUNT_STALE", True)]


def test_a_late_account_neither_trips_nor_releases() -> None:
    board = board_after(at(2))
    late, _ = at(1, "50000")
    assert board.observe(late, T0 + 2 * H) == ()
    board.observe(*at(3, consecutive_losses=9))
    well, _ = at(2.5)
    assert board.observe(well, T0 + 3 * H) == ()
    assert board.state is TradingState.REDUCING


def test_a_clock_that_runs_back_ends_no_cooldown() -> None:
    board = board_after(at(0), at(0.5, entries_today=13))
    holder, _ = at(0.6, entries_today=13)
    assert board.observe(holder, T0 - 5 * DAY) == ()
    assert board.state is TradingState.REDUCING


@pytest.mark.parametrize("equity", ["0", "-5", "NaN", "Infinity"])
def test_without_a_known_equity_everything_halts_and_no_reset_helps(equity: str) -> None:
    board = BreakerBoard(LIMITS)
    holder, now = at(0, equity)
    assert (TripCode.EQUITY_NOT_POSITIVE.value, False) in codes(board.observe(holder, now))
    assert board.state is TradingState.HALTED
    assert board.reset(None, now, holder) == ()
    assert codes(board.reset("EQUITY_NOT_POSITIVE", *reversed(at(1)))) == [("EQUITY_NOT_POSITIVE", True)]


def test_a_reset_releases_only_what_no_longer_holds() -> None:
    board = board_after(at(0, "95000", consecutive_losses=5))
    assert board.reset(None, *reversed(at(1, "95000", consecutive_losses=5))) == ()
    assert codes(board.reset("MAX_DAILY_LOSS", *reversed(at(1, "99000")))) == [("MAX_DAILY_LOSS", True)]
    assert [trip.code for trip in board.trips] == [TripCode.MAX_CONSECUTIVE_LOSSES]
    with pytest.raises(RejectedError, match="unknown breaker LUNCH"):
        board.reset("LUNCH", T0, at(1)[0])


def test_a_reset_of_the_trade_count_starts_it_from_zero() -> None:
    board = board_after(at(0), at(0.1, entries_today=13))
    assert codes(board.reset("TRADE_FREQUENCY", *reversed(at(0.2, entries_today=13)))) == [("TRADE_FREQUENCY", True)]
    assert board.observe(*at(0.3, entries_today=14)) == ()


def test_the_board_goes_on_after_a_restart_as_if_there_had_been_none() -> None:
    looks = [at(0), at(0.1, "84000", entries_today=13), at(1.2, "84000", entries_today=13)]
    board = BreakerBoard(LIMITS)
    for holder, now in looks:
        board.observe(holder, now, {"BTC/USDT": 4.0})
    board.reset("MAX_DRAWDOWN", *reversed(looks[-1]))
    back = BreakerBoard.from_json(board.to_json(), LIMITS)
    assert (back.trips, back.state, back.to_json()) == (board.trips, board.state, board.to_json())
    for look in (at(1.3, "84000", entries_today=14), at(14.1, "75000"), at(30, "60000")):
        assert back.observe(*look, {"BTC/USDT": 1.0}) == board.observe(*look, {"BTC/USDT": 1.0})


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"version": 2}', '{"version": 1}', b"\xff", "[" * 100_000])
def test_a_damaged_state_is_one_error(text: str | bytes) -> None:
    with pytest.raises(DataError):
        BreakerBoard.from_json(text, LIMITS)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["trips", "now_ns", "account_ts", "entries", "trade_times", "rebased"]),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    ),
)
def test_any_part_replaced_gives_a_board_or_that_error(part: str, value: Any) -> None:
    board = board_after(at(0), at(0.1, "84000", entries_today=13))
    tree = json.loads(board.to_json()) | {part: value}
    try:
        back = BreakerBoard.from_json(json.dumps(tree), LIMITS)
    except DataError:
        return
    back.observe(*at(1))
    json.loads(back.to_json())


def test_what_cannot_be_read_halts_until_a_person_has_looked() -> None:
    board = BreakerBoard.unreadable("the state of the breakers is not JSON", T0, LIMITS)
    assert (board.observe(*at(0)), board.state) == ((), TradingState.HALTED)
    again = BreakerBoard.from_json(board.to_json(), LIMITS)
    assert codes(again.reset(None, *reversed(at(1)))) == [("STATE_UNREADABLE", True)]
    assert again.state is TradingState.ACTIVE


def test_a_trip_is_plain_json() -> None:
    board = board_after(at(0, "NaN"))
    plain = [trip.to_json() for trip in board.trips]
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain[0]["value"] is None


def test_every_code_has_one_row() -> None:
    rows = [breaker.code for breaker in (*BREAKERS, VOLATILITY)]
    assert sorted([*rows, TripCode.STATE_UNREADABLE]) == sorted(TripCode)


accounts = st.builds(
    lambda equity, peak, start, row, drawdown: account(
        str(equity), ts_event=T0, peak_equity_quote=Decimal(peak), day_start_equity_quote=Decimal(start), consecutive_losses=row,
        drawdown=drawdown,
    ),
    st.integers(-10, 120), st.integers(0, 120), st.integers(0, 120), st.integers(0, 7), st.sampled_from([0.0, 0.15, math.nan]),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(accounts, min_size=1, max_size=6), st.sampled_from(list(TradingMode)))
def test_a_new_board_says_what_the_moment_says_and_an_old_one_is_never_milder(
    holders: list[AccountSnapshot], mode: TradingMode
) -> None:
    severity = list(TradingState).index
    board = BreakerBoard(LIMITS, mode)
    for i, holder in enumerate(holders):
        board.observe(holder, T0)
        wanted = trading_state(holder, LIMITS, mode)
        assert severity(board.state) >= severity(wanted)
        assert i > 0 or board.state is wanted
        assert board.observe(holder, T0) == ()
