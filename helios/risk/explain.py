"""One decision in words: every number of its trace in a sentence that can be checked with a calculator.

Pure: it reads the plain values of a trace (helios.pipeline.trace) as they are stored. A number that an older trace does not have
is left out, never made up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from helios.risk.codes import EXIT_REASONS, sentence
from helios.risk.explain_size import Values, capital, decimal_of, floats, is_above, money, number, plain, size_sentences

_TIMEFRAMES = ("1m", "5m", "15m")
_ORDER = ("data", "prediction", "volatility", "plan", "review", "allocation", "execution", "rebalance")
"""In which the tiers answered: a database keeps the keys of JSON in an order of its own."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """What one tier said."""

    tier: str
    sentences: tuple[str, ...]


def explain(decision: Values) -> tuple[Chapter, ...]:
    """Return the chapters of a decision, one per step of its trace in their order, how it ended, and how the position was left.

    Parameters
    ----------
    decision : mapping
        `symbol`, `outcome`, `tier`, `detail`, `steps` and, where there are any, `orders` as the trace store returns them.
    """
    steps: Values = decision.get("steps") or {}
    currency = str(decision.get("symbol", "")).partition("/")[2].partition(":")[0]
    plan = steps.get("plan") or {}
    chapters = []
    for name, step in sorted(steps.items(), key=lambda item: _ORDER.index(item[0]) if item[0] in _ORDER else len(_ORDER)):
        told = (
            (refusal_sentences(step) if "no_trade" in step else tuple(_TELLERS[name](step, plan, currency)))
            if name in _TELLERS
            else ()
        )
        if told:
            chapters.append(Chapter(name, told))
    chapters.append(Chapter("outcome", tuple(_ending(decision))))
    closing = tuple(_closing(decision.get("orders") or (), currency))
    return (*chapters, *([Chapter("closing", closing)] if closing else []))


def refusal_sentences(step: Values) -> tuple[str, ...]:
    """Return a tier's reason to do nothing: what the code means, then the tier's own detail."""
    code, detail = str(step["no_trade"]), str(step.get("detail") or "")
    return (f"No trade ({code}). {sentence(code)}", *([capital(detail)] if detail else []))


def _data(step: Values, _plan: Values, currency: str) -> Iterator[str]:
    spread, bid, ask = step.get("spread_bps"), step.get("best_bid"), step.get("best_ask")
    yield f"The bar closed at {money(step.get('close'), currency)} with a turnover of {money(step.get('volume_quote'), currency)}."
    if bid is not None and ask is not None:
        width = f", a spread of {spread:.4g} basis points" if spread is not None else ""
        yield f"The best bid was {money(bid)}, the best ask {money(ask)}{width}."


def _prediction(step: Values, _plan: Values, _currency: str) -> Iterator[str]:
    chances = ", ".join(f"{name} {p:.2%}" for name, p in zip(("BUY", "SELL", "HOLD"), floats(step, "probabilities"), strict=False))
    said = f"{step.get('action')} with a calibrated confidence of {number(step, 'confidence'):.4g}"
    yield f"The model {step.get('model_version')} says {said} ({chances})."
    weights = floats(step, "attention")
    if weights:
        yield "Its attention: " + ", ".join(f"{w:.0%} on {name}" for name, w in zip(_TIMEFRAMES, weights, strict=False)) + "."


def _forecast(step: Values, _plan: Values, _currency: str) -> Iterator[str]:
    daily, yearly = number(step, "daily_volatility"), number(step, "annualized_volatility")
    method = str(step.get("method"))
    who = "GARCH and a slow EWMA, their geometric mean, expect" if method == "GARCH+EWMA" else f"{method} expects"
    yield f"{who} {daily:.2%} a day, {yearly:.2%} a year of 365 days: regime {step.get('regime')}."
    alpha, beta = number(step, "alpha"), number(step, "beta")
    if method.startswith("GARCH") and not math.isnan(alpha + beta):
        yield f"Alpha {alpha:.4g} weighs the last shock, beta {beta:.4g} the past: {alpha + beta:.4g} of a bar's variance goes on."


def _plan(step: Values, _plan: Values, currency: str) -> Iterator[str]:
    if step.get("reduce_only"):
        yield f"{step.get('side')} {money(step.get('notional_quote'), currency)} to close what is held: no size or stop is needed."
        yield from (capital(str(note)) for note in step.get("notes") or ())
        return
    yield f"The plan is to {step.get('side')} at {money(step.get('reference_price'), currency)}."
    sizing = step.get("sizing")
    if sizing:
        yield from size_sentences(sizing, currency)
    else:
        loss = money(step.get("loss_at_stop_quote"), currency)
        yield f"The order is {money(step.get('notional_quote'), currency)}."
        yield f"At the stop {number(step, 'stop_loss_pct'):.2%} away you lose {loss}."
        yield from (capital(str(note)) for note in step.get("notes") or ())
    if step.get("horizon_h"):
        yield f"Whatever the price does, the position is left after {number(step, 'horizon_h'):g} h."


def _review(step: Values, plan: Values, currency: str) -> Iterator[str]:
    multiplier, reviewer = number(step, "multiplier"), step.get("reviewer")
    if multiplier >= 1:
        yield f"The reviewer {reviewer} approved the whole size ({step.get('verdict')})."
    elif multiplier <= 0 or step.get("verdict") == "REJECT":
        yield f"The reviewer {reviewer} vetoed it."
    else:
        size, loss = (decimal_of(plan.get(k)) for k in ("notional_quote", "loss_at_stop_quote"))
        less = Decimal(str(multiplier))
        shrunk = f"{money(size)} x {multiplier:g} = {money(size * less, currency)}, at the stop {money(loss * less, currency)}"
        yield f"The reviewer {reviewer} shrank it: {shrunk}."
    if step.get("reasoning"):
        yield f'"{step["reasoning"]}"'
    yield from (f"{flag}: {sentence(str(flag))}" for flag in step.get("risk_flags") or ())


def _allocation(step: Values, _plan: Values, _currency: str) -> Iterator[str]:
    weight, status = step.get("target_weight"), step.get("solver_status")
    if weight is not None:
        yield f"In the whole portfolio the optimiser ({status}) wants a weight of {number(step, 'target_weight'):.2%} of equity."
    order = f"{step.get('side')} {plain(step.get('quantity_base'))} (leg {step.get('leg')})"
    yield f"The order is {order} under the id {step.get('client_order_id')}."


def _execution(step: Values, _plan: Values, currency: str) -> Iterator[str]:
    codes: Sequence[object] = step.get("deny_codes") or ()
    if codes:
        yield "The order was not sent: " + "; ".join(f"{code}, {sentence(str(code)).rstrip('.').lower()}" for code in codes) + "."
        return
    filled = decimal_of(step.get("filled_base"))
    done = (
        f": {plain(filled)} at {money(step.get('average_price'), currency)}" if is_above(filled, Decimal(0)) else ", nothing filled"
    )
    yield f"The order is {step.get('status')}{done}, fees {money(step.get('fee_quote'), currency)}."
    yield from (f"It comes near a limit: {warning}." for warning in step.get("warnings") or ())
    if step.get("reason"):
        yield f"Reason: {step['reason']} ({sentence(str(step['reason'])).rstrip('.').lower()})."


_WHY = {
    "RISK_EVENT": "what is held had outgrown a limit",
    "LARGE_DRIFT": "it lay more than twice the permitted drift off its target",
    "DRIFT": "it lay more than the permitted drift off its target, and the last rebalance was a week ago",
    "CALENDAR": "the calendar said so",
}


def _rebalance(step: Values, plan: Values, currency: str) -> Iterator[str]:
    why, target = str(step.get("why")), step.get("target_weight")
    to = "" if target is None else f" towards its target of {float(target):.2%} of equity"
    yield f"The holding was trimmed{to}: {_WHY.get(why, why)}."
    yield from _execution({**step, "reason": ""}, plan, currency)


def _ending(decision: Values) -> Iterator[str]:
    outcome, detail = str(decision.get("outcome")), str(decision.get("detail") or "")
    yield f"Ended in the tier {decision.get('tier')} as {outcome}: {sentence(outcome)}"
    if detail:
        yield capital(detail)


def _closing(orders: Sequence[Values], currency: str) -> Iterator[str]:
    filled = [row for row in orders if is_above(decimal_of(row.get("filled_base")), Decimal(0))]
    exits = [row for row in filled if row.get("reduce_only")]
    for row in exits:
        reason = str(row.get("reason") or "SIGNAL")
        done = f"{plain(row.get('filled_base'))} at {money(row.get('average_price'), currency)}"
        yield f"Closed {done}: {EXIT_REASONS.get(reason, sentence(reason).rstrip('.').lower())}."
    # An exit may close what other decisions added: then this decision alone has no result to tell.
    if exits and sum((_signed(row) for row in filled), Decimal(0)) == 0:
        earned = -sum((_signed(row) * decimal_of(row.get("average_price")) for row in filled), Decimal(0))
        fees = sum((decimal_of(row.get("fee_quote")) for row in filled), Decimal(0))
        yield f"Of it all {money(earned, currency)} less fees of {money(fees, currency)} is left: {money(earned - fees, currency)}."


def _signed(row: Values) -> Decimal:
    return decimal_of(row.get("side")) * decimal_of(row.get("filled_base"))


_TELLERS: Mapping[str, Callable[[Values, Values, str], Iterator[str]]] = {
    "data": _data,
    "prediction": _prediction,
    "volatility": _forecast,
    "plan": _plan,
    "review": _review,
    "allocation": _allocation,
    "execution": _execution,
    "rebalance": _rebalance,
}
