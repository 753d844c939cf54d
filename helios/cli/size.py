"""helios size: tier 3's answer to one signal, by the rules, presets and limits the desk itself works with."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, TypeVar

import typer

from helios.cli.app import app
from helios.cli.control import AsJson
from helios.config import HeliosConfig, load_config
from helios.domain.enums import Action, MarketKind, Side, VolatilityRegime
from helios.domain.market import Instrument
from helios.errors import ConfigError
from helios.risk.codes import sentence
from helios.risk.explain_size import capital, money, size_sentences
from helios.risk.leverage import instrument_leverage
from helios.risk.sizing import SizeDecision, SizeRefusal, SizeRequest, size_bounds, size_position

E = TypeVar("E", bound=Enum)
_MOST = Decimal(10) ** 18
"""From here on amounts to 1e-8 have more digits than a decimal number keeps."""
_CLOSES = ("closes what is held on the other side: no size, stop or leverage is needed",)


@app.command()
def size(
    signal: Annotated[str, typer.Option(help="BUY, SELL or HOLD.")],
    confidence: Annotated[float, typer.Option(min=0.0, max=1.0, help="Calibrated probability of the signal.")],
    daily_volatility: Annotated[float, typer.Option(min=0.0, help="Fraction, e.g. 0.03.")],
    regime: Annotated[str, typer.Option(help="LOW, MEDIUM, HIGH or EXTREME.")],
    equity: Annotated[str, typer.Option(help="Quote currency.")],
    held: Annotated[str, typer.Option(help="What is held already, quote currency; below 0 a short.")] = "0",
    drawdown: Annotated[float, typer.Option(min=0.0, max=1.0, help="Fraction of the peak.")] = 0.0,
    payoff_ratio: Annotated[float | None, typer.Option(help="Kelly's b; without it, from stop, target and cost.")] = None,
    cost: Annotated[
        float | None, typer.Option(min=0.0, help="Round trip, fraction of the price; 0 here, not risk.round_trip_cost_pct.")
    ] = None,
    kind: Annotated[
        MarketKind, typer.Option(help="What is traded; only a perp can be sold short or have leverage.")
    ] = MarketKind.SPOT,
    venue_leverage: Annotated[str, typer.Option(help="The venue's largest leverage for the market.")] = "3",
    volatility_ratio: Annotated[float, typer.Option(help="Present volatility over its mean, for volatility_adjusted.")] = math.nan,
    profile: Annotated[str | None, typer.Option(help="Preset, as risk.profile.")] = None,
    method: Annotated[
        str | None, typer.Option(help="kelly, half_kelly, fixed_fractional or volatility_adjusted, as risk.size_method.")
    ] = None,
    ramp_step: Annotated[int | None, typer.Option(min=0, max=5, help="Step of the capital ramp, as risk.ramp_step.")] = None,
    as_json: AsJson = False,
) -> None:
    """How much may be risked on one signal, every step in words.

    The rest comes from the configuration in force. It is no order and looks at no account: what the limits say to drawdown, loss
    of the day or other positions is asked before an order, not here.
    """
    if payoff_ratio is not None and cost is not None:
        raise ConfigError("--payoff-ratio and --cost exclude each other: a payoff ratio has its costs in it")
    chosen = {
        "risk.profile": profile,
        "risk.size_method": method,
        "risk.ramp_step": ramp_step,
        "risk.round_trip_cost_pct": cost or 0.0,
    }
    config = load_config(overrides=chosen)
    action, level = _word(Action, "--signal", signal), _word(VolatilityRegime, "--regime", regime)
    most = _amount("--venue-leverage", venue_leverage)
    if most < 1 or volatility_ratio <= 0:
        raise ConfigError("--venue-leverage is at least 1, and --volatility-ratio above 0")
    instrument = Instrument("BASE/QUOTE", "BASE", "QUOTE", "any", "any", kind, max_leverage=most)
    _finite(
        confidence=confidence, daily_volatility=daily_volatility, drawdown=drawdown, payoff_ratio=payoff_ratio, cost=cost,
        volatility_ratio=None if math.isnan(volatility_ratio) else volatility_ratio,
    )  # fmt: skip
    request = SizeRequest(
        confidence,
        daily_volatility,
        level,
        _amount("--equity", equity),
        drawdown,
        _amount("--held", held),
        instrument_leverage(confidence, level, drawdown, instrument, config.risk),
        volatility_ratio,
        math.nan if payoff_ratio is None else payoff_ratio,
    )
    answer, lines = _answer(action, request, instrument, config)
    print(json.dumps(answer) if as_json else "\n".join(lines))


def _answer(
    action: Action, request: SizeRequest, instrument: Instrument, config: HeliosConfig
) -> tuple[dict[str, Any], tuple[str, ...]]:
    # in the order in which the risk desk asks
    if action is Action.HOLD:
        return _refused(SizeRefusal("HOLD", f"the model says HOLD with confidence {request.confidence:.3f}"))
    side, floor = Side[action.name], config.risk.min_confidence
    if request.confidence >= floor and request.held_notional * side.value < 0:
        return _closing(side, abs(request.held_notional))
    if request.confidence >= floor and side is Side.SELL and not instrument.can_short:
        return _refused(SizeRefusal("SHORT_NOT_ALLOWED", "the market is spot and nothing is held to sell"))
    result = size_position(replace(_absolute(request), side=side), config.risk, size_bounds(config.limits, instrument))
    if isinstance(result, SizeRefusal):
        return _refused(result)
    return _sized(side, result, config)


def _sized(side: Side, decided: SizeDecision, config: HeliosConfig) -> tuple[dict[str, Any], tuple[str, ...]]:
    notes = decided.notes
    if decided.drawdown >= config.limits.max_drawdown:
        notes = (*notes, f"ALERT: the desk opens nothing at a drawdown of {config.limits.max_drawdown:.0%} or more")
    answer: dict[str, Any] = {
        "signal": side.name,
        "notional": float(decided.notional_quote),
        "leverage": decided.leverage,
        "stop_loss_pct": decided.stop_pct,
        "take_profit_pct": decided.target_pct,
        "loss_at_stop": float(decided.loss_at_stop_quote),
        "gain_at_target": float(decided.gain_at_target_quote),
        "reduce_only": False,
        "sizing": dict(decided.values()),
        "notes": list(notes),
    }
    told = f"{side.name} {money(decided.notional_quote)}, leverage {decided.leverage:.1f}"
    exits = f"stop {decided.stop_pct:.2%}, target {decided.target_pct:.2%}, loss at the stop {money(decided.loss_at_stop_quote)}"
    alerts = tuple(note for note in notes if note.startswith("ALERT"))
    return answer, (f"{told}, {exits}", *size_sentences(answer["sizing"]), *alerts)


def _closing(side: Side, held: Decimal) -> tuple[dict[str, Any], tuple[str, ...]]:
    zeros = dict.fromkeys(("stop_loss_pct", "take_profit_pct", "loss_at_stop", "gain_at_target"), 0.0)
    answer = {"signal": side.name, "notional": float(held), "leverage": 1.0, **zeros, "reduce_only": True, "notes": list(_CLOSES)}
    return answer, (f"{side.name} {money(held)}, reduce only", *map(capital, _CLOSES))


def _refused(refusal: SizeRefusal) -> tuple[dict[str, Any], tuple[str, ...]]:
    answer = {"no_trade": refusal.code, "detail": refusal.detail}
    return answer, (f"no trade: {refusal.code}", sentence(refusal.code), capital(refusal.detail))


def _absolute(request: SizeRequest) -> SizeRequest:
    # a short of the same side counts by its size, as the account's views do
    return replace(request, held_notional=abs(request.held_notional))


def _word(words: type[E], option: str, text: str) -> E:
    try:
        return words[text.upper()]
    except KeyError:
        raise ConfigError(f"{option} is one of {', '.join(w.name for w in words)}, not {text!r}") from None


def _amount(option: str, text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except ArithmeticError:
        amount = Decimal("NaN")
    if not amount.is_finite() or abs(amount) >= _MOST:
        raise ConfigError(f"{option} is a number below {_MOST:.0e}, not {text!r}")
    return amount


def _finite(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not math.isfinite(value):
            raise ConfigError(f"--{name.replace('_', '-')} is a finite number, not {value}")
