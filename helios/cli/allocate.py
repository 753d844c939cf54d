"""helios allocate: weights for a set of assets from their candle files, views and holdings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.table import Table

from helios.cli.app import app
from helios.cli.control import AsJson
from helios.cli.history_print import console, iso, when
from helios.config import PortfolioConfig, load_config
from helios.domain.decisions import FloatArray
from helios.errors import ConfigError, DataError
from helios.risk.sectors import sector_of
from helios.store.closes import DAY_NS, DailyCloses, read_daily_closes

if TYPE_CHECKING:
    from helios.portfolio.allocation import AllocationSettings, Proposal, ProposedTrade
    from helios.portfolio.frontier import YearlyFigures

CASH = "cash"
_YEAR = 365


@dataclass(frozen=True, slots=True)
class _Holdings:
    """Present weights, prices and equity; `equity` is None where no holdings were given."""

    w0: FloatArray
    prices: FloatArray
    equity: float | None


@dataclass(frozen=True, slots=True)
class _Answer:
    """What is printed."""

    as_of_ns: int
    settings: AllocationSettings
    proposal: Proposal
    holdings: _Holdings
    trades: Sequence[ProposedTrade]
    frontier: Sequence[tuple[FloatArray, YearlyFigures]]


@app.command()
def allocate(
    candles: Annotated[Path, typer.Option(help="Folder with a candle file per symbol, e.g. BTC-USDT.csv (CSV, Parquet, zip).")],
    views: Annotated[Path | None, typer.Option(help="JSON file of views; none: the prior alone.")] = None,
    objective: Annotated[str, typer.Option(help="sharpe, utility, min_variance or risk_parity.")] = "sharpe",
    risk_free: Annotated[float, typer.Option(help="A year, e.g. 0.05.")] = 0.0,
    covariance: Annotated[
        str | None, typer.Option(help="sample, ledoit_wolf (default), oas, constant_correlation, ewma or denoised.")
    ] = None,
    days: Annotated[int | None, typer.Option(min=20, help="Daily returns to use, the newest (default 90).")] = None,
    max_position: Annotated[float | None, typer.Option(help="Largest weight (default 0.2).")] = None,
    max_sector: Annotated[float | None, typer.Option(help="Largest weight of a sector (default 0.6).")] = None,
    holdings: Annotated[Path | None, typer.Option(help='JSON file, e.g. {"cash": 5000, "BTC/USDT": 0.1}.')] = None,
    cost: Annotated[float | None, typer.Option(min=0.0, help="One-way cost of a trade (default 0.0015).")] = None,
    hold_days: Annotated[float, typer.Option(help="Days over which utility spreads the cost of a trade.")] = 30.0,
    frontier: Annotated[int | None, typer.Option(min=2, help="Also print this many points of the efficient frontier.")] = None,
    as_json: AsJson = False,
) -> None:
    """Propose weights: equilibrium and views (Black-Litterman), caps per position and sector, the rest in cash.

    Figures are yearly, 365 days. Nothing is traded.
    """
    from helios.numerics import one_thread

    config = load_config().portfolio
    settings = _settings(config, objective, covariance, risk_free, max_position, max_sector, cost, hold_days)
    read = read_daily_closes(candles)
    with one_thread():
        answer = _answer(read, days or config.covariance_days, views, holdings, settings, float(config.min_trade_quote), frontier)
    if as_json:
        print(json.dumps(_as_dict(answer), allow_nan=False))
    else:
        _print(answer)


def _settings(
    config: PortfolioConfig,
    objective: str,
    covariance: str | None,
    risk_free: float,
    max_position: float | None,
    max_sector: float | None,
    cost: float | None,
    hold_days: float,
) -> AllocationSettings:
    from helios.portfolio.allocation import AllocationSettings

    chosen = AllocationSettings(
        objective=objective,
        covariance=covariance or config.covariance,
        half_life_days=config.covariance_half_life_days,
        risk_free=risk_free,
        risk_aversion=config.risk_aversion,
        tau=config.tau,
        max_position=config.max_position if max_position is None else max_position,
        max_sector=config.max_sector if max_sector is None else max_sector,
        cost_pct=config.cost_pct if cost is None else cost,
        hold_days=hold_days,
    )
    for name, cap in (("--max-position", chosen.max_position), ("--max-sector", chosen.max_sector)):
        if not 0 < cap <= 1:
            raise ConfigError(f"{name} {cap:g} is not above 0 and at most 1")
    if not (hold_days > 0 and math.isfinite(hold_days) and math.isfinite(risk_free) and math.isfinite(chosen.cost_pct)):
        raise ConfigError("--hold-days must be above 0, and --risk-free and --cost must be numbers")
    return chosen


def _answer(
    read: DailyCloses,
    days: int,
    views_file: Path | None,
    holdings_file: Path | None,
    settings: AllocationSettings,
    smallest_quote: float,
    n_points: int | None,
) -> _Answer:
    from helios.portfolio.allocation import frontier_of, propose, trades_to
    from helios.portfolio.covariance import closes_grid
    from helios.portfolio.views import parse_views

    symbols = sorted(read.closes)
    _check_quotes(symbols)
    times, grid = closes_grid(read.closes, symbols, DAY_NS)
    grid = grid[-(days + 1) :]
    views = [] if views_file is None else parse_views(_text(views_file), str(views_file))
    prices = _last_known(grid, symbols)
    held = _holdings(holdings_file, symbols, prices)
    turnover = np.array([read.turnover[s] for s in symbols])
    prior = turnover / turnover.sum() if turnover.sum() > 0 else np.full(len(symbols), 1.0 / len(symbols))
    proposal = propose(symbols, grid[1:] / grid[:-1] - 1.0, prior, views, _sector, settings, held.w0)
    trades = [] if held.equity is None else trades_to(proposal, held.w0, prices, held.equity, settings.cost_pct, smallest_quote)
    points = [] if n_points is None else frontier_of(proposal, n_points, settings.risk_free)
    return _Answer(int(times[-1]), settings, proposal, held, trades, points)


def _sector(symbol: str) -> str:
    return sector_of(symbol.split("/")[0])


def _check_quotes(symbols: Sequence[str]) -> None:
    quotes = sorted({symbol.split("/")[1].split(":")[0] for symbol in symbols})
    if len(quotes) > 1:
        raise DataError(f"the candle files are in {' and '.join(quotes)}: one portfolio needs one quote currency")


def _last_known(grid: FloatArray, symbols: Sequence[str]) -> FloatArray:
    if not len(grid):
        raise DataError("no candle file has a bar that closes within the last hour of a day")
    known = np.isfinite(grid)
    for column, symbol in enumerate(symbols):
        if not known[:, column].any():
            raise DataError(f"{symbol} has no daily close within the days used")
    last = len(grid) - 1 - np.argmax(known[::-1], axis=0)
    prices: FloatArray = grid[last, np.arange(len(symbols))]
    return prices


def _holdings(file: Path | None, symbols: Sequence[str], prices: FloatArray) -> _Holdings:
    if file is None:
        return _Holdings(np.zeros(len(symbols)), prices, None)
    try:
        tree = json.loads(_text(file))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ConfigError(f"{file} is not JSON: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{file} is not an object of quantities by symbol")
    for name, amount in tree.items():
        if name != CASH and name not in symbols:
            raise ConfigError(f"{file}: unknown asset {name!r}; known are cash, {', '.join(symbols)}")
        if isinstance(amount, bool) or not isinstance(amount, int | float) or not math.isfinite(amount) or amount < 0:
            raise ConfigError(f"{file}: the quantity of {name} is not a number of 0 or more")
    values = np.array([float(tree.get(s, 0.0)) for s in symbols]) * prices
    equity = float(values.sum()) + float(tree.get(CASH, 0.0))
    if equity <= 0:
        raise ConfigError(f"{file}: cash and holdings are worth nothing")
    return _Holdings(values / equity, prices, equity)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {file}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None


def _as_dict(answer: _Answer) -> dict[str, Any]:
    from helios.portfolio.covariance import correlation

    proposal, held, figures = answer.proposal, answer.holdings, answer.proposal.figures
    return {
        "as_of": iso(answer.as_of_ns),
        "days": proposal.n_rows,
        "objective": answer.settings.objective,
        "covariance": answer.settings.covariance,
        "risk_free": answer.settings.risk_free,
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
            {**_figures_dict(point), "weights": dict(zip(proposal.symbols, w.tolist(), strict=True))} for w, point in answer.frontier
        ],
    }  # fmt: skip


def _asset_rows(answer: _Answer) -> list[dict[str, Any]]:
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


def _print(answer: _Answer) -> None:
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


def _weights_table(answer: _Answer) -> Table:
    table = Table("asset", title=f"Weights: {answer.settings.objective}", title_justify="left", box=None)
    names = ("weight", "held_weight", "prior_weight", "prior_return", "posterior_return", "volatility", "risk_share")
    for name in ("weight", "held", "prior weight", "prior return", "posterior return", "volatility", "share of risk"):
        table.add_column(name, justify="right")
    for row in _asset_rows(answer):
        table.add_row(row["symbol"], *("-" if row[name] is None else f"{row[name]:.2%}" for name in names))
    held_cash = "" if answer.holdings.equity is None else f"{1 - float(answer.holdings.w0.sum()):.2%}"
    table.add_row(CASH, f"{answer.proposal.cash:.2%}", held_cash)
    return table


def _trades_table(answer: _Answer) -> Table:
    table = Table("trade", title="Trades", title_justify="left", box=None)
    for name in ("change", "quantity", "value", "cost"):
        table.add_column(name, justify="right")
    for t in answer.trades:
        cost = f"{t.cost_quote:,.2f}" if t.is_made else "too small"
        verb = "buy" if t.change > 0 else "sell"
        table.add_row(f"{verb} {t.symbol}", f"{t.change:+.2%}", f"{abs(t.quantity_base):.8g}", f"{t.value_quote:,.2f}", cost)
    return table


def _frontier_table(answer: _Answer) -> Table:
    table = Table(title="Efficient frontier", title_justify="left", box=None)
    for name in ("return", "volatility", "Sharpe", *answer.proposal.symbols):
        table.add_column(name, justify="right")
    for w, point in answer.frontier:
        weights = (f"{x:.1%}" for x in w)
        table.add_row(f"{point.expected_return:.2%}", f"{point.volatility:.2%}", _sharpe(point), *weights)
    return table


def _sharpe(figures: YearlyFigures) -> str:
    return f"{figures.sharpe:.2f}" if math.isfinite(figures.sharpe) else "-"
