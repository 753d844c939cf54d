"""What `helios allocate` prints: tables for people, or plain JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from helios.cli.history_print import console, iso, when
from helios.domain.decisions import FloatArray

if TYPE_CHECKING:
    from helios.portfolio.allocation import AllocationSettings, Proposal, ProposedTrade
    from helios.portfolio.frontier import YearlyFigures

CASH = "cash"
_YEAR = 365


@dataclass(frozen=True, slots=True)
class Holdings:
    """Present weights, prices and equity; `equity` is None where no holdings were given."""

    w0: FloatArray
    prices: FloatArray
    equity: float | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What is printed."""

    as_of_ns: int
    settings: AllocationSettings
    proposal: Proposal
    holdings: Holdings
    trades: Sequence[ProposedTrade]
    frontier: Sequence[tuple[FloatArray, YearlyFigures]]


def as_dict(answer: Answer) -> dict[str, Any]:
    """Return the answer as plain JSON; figures, prior and posterior are a year's."""
    from helios.portfolio.covariance import correlation

    proposal, held, figures = answer.proposal, answer.holdings, answer.proposal.figures
    return {
        "as_of": iso(answer.as_of_ns),
        "days": proposal.n_rows,
        "objective": answer.settings.objective,
        "covariance": answer.settings.covariance,
        "risk_free": answer.settings.risk_free,
        "weights": _by_symbol(proposal, proposal.weights),
        **_figures_dict(figures),
        "prior": _by_symbol(proposal, _YEAR * proposal.estimate.pi),
        "posterior": _by_symbol(proposal, _YEAR * proposal.estimate.mu),
        "assets": _asset_rows(answer),
        "cash": proposal.cash,
        "portfolio": _figures_dict(figures),
        "correlation": correlation(proposal.estimate.sigma_plus).tolist(),
        "equity": held.equity,
        "trades": [
            {"symbol": t.symbol, "change": t.change, "value_quote": t.value_quote, "quantity_base": t.quantity_base,
             "cost_quote": t.cost_quote, "made": t.is_made}
            for t in answer.trades
        ],
        "cost_quote": sum(t.cost_quote for t in answer.trades),
        "frontier": [
            {**_figures_dict(point), "weights": _by_symbol(proposal, w)} for w, point in answer.frontier
        ],
    }  # fmt: skip


def _by_symbol(proposal: Proposal, values: FloatArray) -> dict[str, float]:
    return dict(zip(proposal.symbols, values.tolist(), strict=True))


def _asset_rows(answer: Answer) -> list[dict[str, Any]]:
    known, proposal = answer.proposal.estimate, answer.proposal
    columns: Mapping[str, FloatArray] = {
        "prior_weight": known.weights_prior,
        "prior_return": _YEAR * known.pi,
        "posterior_return": _YEAR * known.mu,
        "volatility": np.sqrt(_YEAR * np.diag(known.sigma_plus)),
        "weight": proposal.weights,
        "risk_share": proposal.risk_shares,
        "held_weight": answer.holdings.w0,
    }
    rows = [{name: _number(values[i]) for name, values in columns.items()} for i in range(len(proposal.symbols))]
    return [{"symbol": symbol, **row} for symbol, row in zip(proposal.symbols, rows, strict=True)]


def _figures_dict(figures: YearlyFigures) -> dict[str, float | None]:
    return {
        "expected_return": _number(figures.expected_return),
        "volatility": _number(figures.volatility),
        "sharpe": _number(figures.sharpe),
    }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def show(answer: Answer) -> None:
    """Print the answer as tables."""
    out, figures = console(), answer.proposal.figures
    out.print(_weights_table(answer))
    out.print(
        f"expected return {figures.expected_return:.2%}, volatility {figures.volatility:.2%}, Sharpe {_sharpe(figures)} a year;"
        f" {answer.proposal.n_rows} daily returns to {when(answer.as_of_ns)} UTC, covariance {answer.settings.covariance}"
    )
    if answer.holdings.equity is not None:
        out.print(_trades_table(answer) if answer.trades else "nothing to trade")
        out.print(f"cost {sum(t.cost_quote for t in answer.trades):,.2f} of equity {answer.holdings.equity:,.2f}")
    if answer.frontier:
        out.print(_frontier_table(answer))


def _weights_table(answer: Answer) -> Table:
    table = Table("asset", title=f"Weights: {answer.settings.objective}", title_justify="left", box=None)
    names = ("weight", "held_weight", "prior_weight", "prior_return", "posterior_return", "volatility", "risk_share")
    for name in ("weight", "held", "prior weight", "prior return", "posterior return", "volatility", "share of risk"):
        table.add_column(name, justify="right")
    for row in _asset_rows(answer):
        table.add_row(row["symbol"], *("-" if row[name] is None else f"{row[name]:.2%}" for name in names))
    held_cash = "" if answer.holdings.equity is None else f"{1 - float(answer.holdings.w0.sum()):.2%}"
    table.add_row(CASH, f"{answer.proposal.cash:.2%}", held_cash)
    return table


def _trades_table(answer: Answer) -> Table:
    table = Table("trade", title="Trades", title_justify="left", box=None)
    for name in ("change", "quantity", "value", "cost"):
        table.add_column(name, justify="right")
    for t in answer.trades:
        cost = f"{t.cost_quote:,.2f}" if t.is_made else "too small"
        verb = "buy" if t.change > 0 else "sell"
        table.add_row(f"{verb} {t.symbol}", f"{t.change:+.2%}", f"{abs(t.quantity_base):.8g}", f"{t.value_quote:,.2f}", cost)
    return table


def _frontier_table(answer: Answer) -> Table:
    table = Table(title="Efficient frontier", title_justify="left", box=None)
    for name in ("return", "volatility", "Sharpe", *answer.proposal.symbols):
        table.add_column(name, justify="right")
    for w, point in answer.frontier:
        weights = (f"{x:.1%}" for x in w)
        table.add_row(f"{point.expected_return:.2%}", f"{point.volatility:.2%}", _sharpe(point), *weights)
    return table


def _sharpe(figures: YearlyFigures) -> str:
    return f"{figures.sharpe:.2f}" if math.isfinite(figures.sharpe) else "-"
