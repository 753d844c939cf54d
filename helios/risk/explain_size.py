"""The chain from confidence to money in sentences that can be checked with a calculator; and how amounts are written."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from helios.risk.sizing import DRAWDOWN_STEP

Values = Mapping[str, Any]
_WORDS = {0.5: "Half", 0.25: "A quarter", 1.0: "All"}


def size_sentences(values: Values, currency: str = "") -> tuple[str, ...]:
    """Return the chain from confidence to money, one step a sentence.

    Parameters
    ----------
    values : mapping
        `SizeDecision.values()` or the `sizing` of a plan step.
    currency : str
        Quote currency, put behind amounts.
    """
    tellers = (_bet, _base, _volatility, _drawdown, _leverage, _caps, _capital_seen, _amount, _exits)
    return tuple(line for tell in tellers for line in tell(values, currency))


def _bet(v: Values, _: str) -> Iterator[str]:
    p, b, stop, target, cost = (number(v, k) for k in ("confidence", "payoff_ratio", "stop_pct", "target_pct", "round_trip_cost_pct"))
    made = (target - cost) / (stop + cost)
    if math.isclose(made, b, rel_tol=1e-6):
        costs = f" with {cost:.2%} of costs on both" if cost else ""
        yield f"Payoff ratio b = target over stop{costs} = {target - cost:.2%} / {stop + cost:.2%} = {b:.4g}."
    elif math.isfinite(win := number(v, "mean_win_stops")):
        loss = number(v, "mean_loss_stops")
        yield (
            f"Payoff ratio b = {b:.4g}: the model's trades won {win:.4g} and lost {loss:.4g} stops on average, after costs "
            f"(target over stop would be {made:.4g})."
        )
    else:
        yield f"Payoff ratio b = {b:.4g}, as given."
    yield f"Full Kelly = p - (1 - p) / b = {p:.4g} - {1 - p:.4g} / {b:.4g} = {number(v, 'kelly_full'):.4f}."


def _base(v: Values, _: str) -> Iterator[str]:
    method, base = v.get("method"), number(v, "base_fraction")
    if method == "fixed_fractional":
        stop = number(v, "stop_pct")
        yield f"Fixed fractional: {base * stop:.2%} of the capital may be lost at the stop {stop:.2%} away: {base:.4f} of it."
    elif method == "volatility_adjusted":
        yield f"Volatility adjusted: the base is {base:.4f} of the capital at mean volatility."
    elif method == "half_kelly":
        yield f"Half-Kelly of the recorded win rate and average win and loss is {base:.4f}."
    else:
        share = number(v, "kelly_multiplier")
        yield f"{_WORDS.get(share, f'{share:g}')} of it is {base:.4f}."


def _volatility(v: Values, _: str) -> Iterator[str]:
    method, daily, reference, scaled = (
        v.get("method"),
        *(number(v, k) for k in ("daily_volatility", "volatility_reference", "volatility_scaled")),
    )
    if method == "fixed_fractional":
        yield "The stop distance has the volatility in it: nothing more is taken off for it."
    elif method == "volatility_adjusted":
        ratio = number(v, "volatility_ratio")
        known = (
            f"1 / {ratio:.4g}, the mean over the present volatility, at most 2"
            if ratio > 0
            else f"{reference:.2%} / {daily:.2%}, at most 1"
        )
        yield f"Times {known}, it is {scaled:.4f}."
    elif v.get("volatility_rule") == "inverse":
        yield f"Times {reference:.2%} / {daily:.2%} of daily volatility, at most 1, it is {scaled:.4f}."
    else:
        yield f"Divided by 1 + {daily:.2%} / {reference:.2%} = {1 + daily / reference:.4g} for daily volatility, it is {scaled:.4f}."


def _drawdown(v: Values, _: str) -> Iterator[str]:
    drawdown, step = number(v, "drawdown"), f"{DRAWDOWN_STEP:.0%}"
    if drawdown <= DRAWDOWN_STEP:
        yield f"The drawdown of {drawdown:.2%} is not above {step}: nothing is taken off for it."
    else:
        known = "is unknown" if math.isnan(drawdown) else f"of {drawdown:.2%} is above {step}"
        yield f"The drawdown {known}: half of it, {number(v, 'drawdown_scaled'):.4f}."


def _leverage(v: Values, _: str) -> Iterator[str]:
    leverage, wanted, before = (number(v, k) for k in ("leverage", "leveraged", "drawdown_scaled"))
    if leverage <= 1:
        yield f"Leverage {leverage:.1f}: nothing is added."
    elif wanted > before:
        yield f"Leverage {leverage:.1f} makes it {wanted:.4f}; the quantity carries it, profit and loss do not get it a second time."
    else:
        yield f"Leverage {leverage:.1f} lowers the margin; the method fixes the exposure."


def _caps(v: Values, _: str) -> Iterator[str]:
    wanted, regime_cap, position_cap, target = (number(v, k) for k in ("leveraged", "regime_cap", "position_cap", "target_fraction"))
    caps = f"The {v.get('regime')} regime's cap is {regime_cap:.2%} of the capital, the position's {position_cap:.2%}"
    yield f"{caps}: {wanted:.2%} {'passes under both' if target >= wanted else f'is cut to {target:.2%}'}."


def _capital_seen(v: Values, currency: str) -> Iterator[str]:
    share, reserve = number(v, "ramp_share"), number(v, "reserve")
    if share < 1 or reserve > 0:
        parts = [f"less a reserve of {reserve:.0%}"] if reserve > 0 else []
        parts += [f"at {share:.0%} of the ramp"] if share < 1 else []
        equity, capital = (money(v.get(k), currency) for k in ("equity_quote", "capital_quote"))
        yield f"Of the equity of {equity}, sizing sees {capital}: {' and '.join(parts)}."


def _amount(v: Values, currency: str) -> Iterator[str]:
    target, held, notional = number(v, "target_fraction"), number(v, "held_fraction"), decimal_of(v.get("notional_quote"))
    capital = decimal_of(v.get("capital_quote"))
    wanted = f"{target:.4%} of {money(capital, currency)} is {money(Decimal(str(target)) * capital, currency)}"
    if held > 0:
        wanted += f"; {money(Decimal(str(held)) * capital, currency)} of it is held already"
    yield f"{wanted}."
    room, cap = Decimal(str(max(target - held, 0.0))) * capital, decimal_of(v.get("order_cap_quote"))
    cut = f"One order may have {money(cap, currency)} at most: the" if notional == cap and is_above(room, cap) else "The"
    yield f"{cut} order is {money(notional, currency)}."


def _exits(v: Values, currency: str) -> Iterator[str]:
    equity, loss = decimal_of(v.get("equity_quote")), decimal_of(v.get("loss_at_stop_quote"))
    share = f", {float(loss / equity):.2%} of equity" if is_above(equity, Decimal(0)) else ""
    yield f"At the stop {number(v, 'stop_pct'):.2%} away you lose {money(loss, currency)}{share}."
    gain = money(v.get("gain_at_target_quote"), currency)
    yield f"At the target {number(v, 'target_pct'):.2%} away you gain {gain}. Both are before costs."


def number(values: Values, name: str) -> float:
    """Return a number by name, NaN where there is none."""
    value = values.get(name)
    return float(value) if isinstance(value, int | float) else math.nan


def floats(values: Values, name: str) -> list[float]:
    """Return the known numbers of a list."""
    return [float(v) for v in values.get(name) or () if v is not None]


def decimal_of(value: object) -> Decimal:
    """Return an amount, NaN where it is none."""
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return Decimal("NaN")


def money(value: object, currency: str = "") -> str:
    """Write an amount to the cent, one below 1 to six digits: a price of 0.00001234 must not read 0.00."""
    amount = decimal_of(value)
    if not amount.is_finite():
        return "an unknown amount" if amount.is_nan() else "any amount"
    text = f"{amount:,.2f}" if abs(amount) >= 1 or amount == 0 else f"{amount:.{5 - amount.adjusted()}f}".rstrip("0").rstrip(".")
    return f"{text} {currency}".rstrip()


def is_above(one: Decimal, other: Decimal) -> bool:
    """Whether both are known and the first is the larger."""
    return not (one.is_nan() or other.is_nan()) and one > other


def plain(value: object) -> str:
    """Write a quantity without the zeros at its end."""
    amount = decimal_of(value)
    return f"{amount.normalize():,f}" if amount.is_finite() else str(value)


def capital(text: str) -> str:
    """Begin with a capital letter, and end as a sentence ends."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
