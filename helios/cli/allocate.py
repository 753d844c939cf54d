"""helios allocate: weights for a set of assets from their candle files, views and holdings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from helios.cli.allocate_print import CASH, Answer, Holdings, as_dict, show
from helios.cli.app import app
from helios.cli.control import AsJson
from helios.config import PortfolioConfig, load_config
from helios.domain.decisions import FloatArray
from helios.errors import ConfigError, DataError
from helios.risk.sectors import sector_of
from helios.store.closes import DAY_NS, DailyCloses, read_daily_closes

if TYPE_CHECKING:
    from helios.portfolio.allocation import AllocationSettings


EPOCH = date(1970, 1, 1)
POINTS = 25
"""Of the frontier in the picture, where the user asks for no other number."""


@dataclass(frozen=True, slots=True)
class _Files:
    """What is read beside the candles."""

    views: Path | None
    holdings: Path | None
    lots: Path | None


@app.command()
def allocate(
    candles: Annotated[Path, typer.Option(help="Folder with a candle file per symbol, e.g. BTC-USDT.csv (CSV, Parquet, zip).")],
    views: Annotated[Path | None, typer.Option(help="JSON file of views; none: the prior alone.")] = None,
    objective: Annotated[str, typer.Option(help="sharpe, utility, min_variance, risk_parity or max_diversification.")] = "sharpe",
    risk_free: Annotated[float, typer.Option(help="A year, e.g. 0.05.")] = 0.0,
    covariance: Annotated[
        str | None, typer.Option(help="sample, ledoit_wolf (default), oas, constant_correlation, ewma or denoised.")
    ] = None,
    days: Annotated[int | None, typer.Option(min=20, help="Daily returns to use, the newest (default 90).")] = None,
    symbols: Annotated[str, typer.Option(help="Only these files of the folder, e.g. BTC/USDT,ETH/USDT.")] = "",
    until: Annotated[str | None, typer.Option(help="Last UTC day to use, YYYY-MM-DD (default the newest).")] = None,
    max_position: Annotated[float | None, typer.Option(help="Largest weight (default 0.2).")] = None,
    max_sector: Annotated[float | None, typer.Option(help="Largest weight of a sector (default 0.6).")] = None,
    min_cash: Annotated[float | None, typer.Option(help="Least share of equity left in cash (default 0).")] = None,
    max_turnover: Annotated[float | None, typer.Option(help="Largest sum of weight changes; needs --holdings.")] = None,
    max_correlation: Annotated[
        float | None, typer.Option(help="What moves more like a larger holding is not bought; needs --holdings.")
    ] = None,
    holdings: Annotated[Path | None, typer.Option(help='JSON file, e.g. {"cash": 5000, "BTC/USDT": 0.1}.')] = None,
    lots: Annotated[Path | None, typer.Option(help='JSON file of quantity steps, e.g. {"BTC/USDT": 0.0001}.')] = None,
    cost: Annotated[float | None, typer.Option(min=0.0, help="One-way cost of a trade (default 0.0015).")] = None,
    hold_days: Annotated[float, typer.Option(help="Days over which utility spreads the cost of a trade.")] = 30.0,
    frontier: Annotated[int | None, typer.Option(min=2, help="Also print this many points of the efficient frontier.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw risk against return and the frontier to this SVG file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Propose weights: equilibrium and views (Black-Litterman), caps per position and sector, the rest in cash; and the trades.

    Figures are yearly, 365 days. Nothing is traded.
    """
    from helios.numerics import one_thread

    config = load_config().portfolio
    given = {
        "covariance": covariance, "max_position": max_position, "max_sector": max_sector, "min_cash": min_cash,
        "max_turnover": max_turnover, "max_correlation": max_correlation, "cost_pct": cost,
    }  # fmt: skip
    asked = {name: value for name, value in given.items() if value is not None}
    settings = _settings(
        config, holdings is not None, asked | {"objective": objective, "risk_free": risk_free, "hold_days": hold_days}
    )
    files = _Files(views, holdings, lots)
    with one_thread():
        answer = _answer(
            read_daily_closes(candles, _names(symbols), _end_of(until)),
            days or config.covariance_days,
            files,
            settings,
            float(config.min_trade_quote),
            frontier,
        )
        if plot is not None:
            _draw(plot, answer)
    if as_json:
        print(json.dumps(as_dict(answer), allow_nan=False))
    else:
        show(answer)


def _draw(file: Path, answer: Answer) -> None:
    from helios.cli.allocate_plot import picture
    from helios.portfolio.allocation import frontier_of

    drawn = answer if answer.frontier else replace(answer, frontier=frontier_of(answer.proposal, POINTS, answer.settings.risk_free))
    try:
        file.write_text(picture(drawn), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from None


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip().upper() for name in text.split(",") if name.strip())


def _end_of(day: str | None) -> int | None:
    if day is None:
        return None
    try:
        return ((date.fromisoformat(day) - EPOCH).days + 1) * DAY_NS
    except ValueError:
        raise ConfigError(f"--until {day!r} is not a date, YYYY-MM-DD") from None


def _settings(config: PortfolioConfig, has_holdings: bool, asked: Mapping[str, Any]) -> AllocationSettings:
    from helios.portfolio.allocation import AllocationSettings

    for name in ("max_turnover", "max_correlation"):
        if name in asked and not has_holdings:
            raise ConfigError(f"{_option(name)} is measured from what is held: it needs --holdings")
    turnover = math.inf if config.max_turnover is None or not has_holdings else config.max_turnover
    configured = AllocationSettings(
        covariance=config.covariance,
        half_life_days=config.covariance_half_life_days,
        risk_aversion=config.risk_aversion,
        tau=config.tau,
        max_position=config.max_position,
        max_sector=config.max_sector,
        min_cash=config.min_cash,
        max_turnover=turnover,
        cost_pct=config.cost_pct,
    )
    chosen = replace(configured, **asked)
    _check(chosen)
    return chosen


def _check(chosen: AllocationSettings) -> None:
    for name in ("max_position", "max_sector"):
        if not 0 < getattr(chosen, name) <= 1:
            raise ConfigError(f"{_option(name)} {getattr(chosen, name):g} is not above 0 and at most 1")
    if not 0 <= chosen.min_cash < 1:
        raise ConfigError(f"--min-cash {chosen.min_cash:g} is not at least 0 and below 1")
    if not chosen.max_turnover >= 0 or not -1 <= chosen.max_correlation <= 1:
        raise ConfigError("--max-turnover must be 0 or more, and --max-correlation within -1..1")
    if not (chosen.hold_days > 0 and all(map(math.isfinite, (chosen.hold_days, chosen.risk_free, chosen.cost_pct)))):
        raise ConfigError("--hold-days must be above 0, and --risk-free and --cost must be numbers")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _answer(
    read: DailyCloses,
    days: int,
    files: _Files,
    settings: AllocationSettings,
    smallest_quote: float,
    n_points: int | None,
) -> Answer:
    from helios.portfolio.allocation import frontier_of, propose, trades_to
    from helios.portfolio.covariance import closes_grid
    from helios.portfolio.views import parse_views

    symbols = sorted(read.closes)
    _check_quotes(symbols)
    times, grid = closes_grid(read.closes, symbols, DAY_NS)
    grid = grid[-(days + 1) :]
    views = [] if files.views is None else parse_views(_text(files.views), str(files.views))
    prices = _last_known(grid, symbols)
    held = _holdings(files.holdings, symbols, prices)
    lots = _lots(files.lots, symbols)
    turnover = np.array([read.turnover[s] for s in symbols])
    prior = turnover / turnover.sum() if turnover.sum() > 0 else np.full(len(symbols), 1.0 / len(symbols))
    proposal = propose(symbols, grid[1:] / grid[:-1] - 1.0, prior, views, _sector, settings, held.w0)
    trades = [] if held.equity is None else trades_to(proposal, held.w0, prices, held.equity, settings.cost_pct, smallest_quote, lots)
    points = [] if n_points is None else frontier_of(proposal, n_points, settings.risk_free)
    return Answer(int(times[-1]), settings, proposal, held, trades, points)


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
            raise DataError(f"{symbol} has no daily close within the {len(grid) - 1} days up to the newest: use --until or --symbols")
    last = len(grid) - 1 - np.argmax(known[::-1], axis=0)
    prices: FloatArray = grid[last, np.arange(len(symbols))]
    return prices


def _holdings(file: Path | None, symbols: Sequence[str], prices: FloatArray) -> Holdings:
    if file is None:
        return Holdings(np.zeros(len(symbols)), prices, None)
    from helios.portfolio.views import is_number

    tree = _object(file, "quantities by symbol", (CASH, *symbols))
    for name, amount in tree.items():
        if not is_number(amount) or amount < 0:
            raise ConfigError(f"{file}: the quantity of {name} is not a number of 0 or more")
    with np.errstate(over="ignore"):
        values = np.array([float(tree.get(s, 0.0)) for s in symbols]) * prices
    equity = float(values.sum()) + float(tree.get(CASH, 0.0))
    if equity <= 0:
        raise ConfigError(f"{file}: cash and holdings are worth nothing")
    if not math.isfinite(equity):
        raise ConfigError(f"{file}: the holdings are worth more than can be counted")
    return Holdings(values / equity, prices, equity)


def _lots(file: Path | None, symbols: Sequence[str]) -> list[Decimal]:
    from helios.portfolio.allocation import ANY_LOT
    from helios.portfolio.views import is_number

    tree = {} if file is None else _object(file, "quantity steps by symbol", symbols)
    for name, step in tree.items():
        if not is_number(step) or step <= 0:
            raise ConfigError(f"{file}: the step of {name} is not a number above 0")
    return [Decimal(repr(tree[s])) if s in tree else ANY_LOT for s in symbols]


def _object(file: Path, of: str, known: Sequence[str]) -> dict[str, Any]:
    try:
        tree = json.loads(_text(file))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ConfigError(f"{file} is not JSON: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{file} is not an object of {of}")
    for name in tree:
        if name not in known:
            raise ConfigError(f"{file}: unknown asset {name!r}; known are {', '.join(known)}")
    return tree


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {file}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
