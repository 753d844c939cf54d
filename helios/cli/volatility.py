"""`helios volatility`: the forecast of the coming day from a file of candles, minute by minute, and how good such forecasts were."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.table import Table

from helios.cli.app import app
from helios.cli.control import AsJson
from helios.cli.history_print import console, progress
from helios.config import RiskConfig, load_config
from helios.domain.decisions import FloatArray
from helios.domain.enums import Timeframe
from helios.domain.market import BAR_VALUES
from helios.errors import ConfigError, DataError
from helios.store.candle_files import MAX_BYTES, Naming, naming_of, parse_candles

if TYPE_CHECKING:
    from helios.risk.volatility import VolatilityModel
    from helios.risk.walk_forward import SkillReport

_CLOSE = BAR_VALUES.index("close")
_MAX_BARS = 20_000_000
_NAMES = {"ewma": "EWMA of the desk", "ewma_daily": "EWMA 0.94 a day", "constant": "constant"}


@dataclass(frozen=True, slots=True)
class Closes:
    """Closes of consecutive bars.

    Attributes
    ----------
    values : ndarray of shape (n_bars,)
        NaN where the file has no row or no price.
    end_time : int
        Close time of the last one, ns UTC.
    """

    symbol: str
    timeframe: Timeframe
    values: FloatArray
    end_time: int


@app.command()
def volatility(
    file: Annotated[Path, typer.Argument(help="Candles of one symbol: CSV, Parquet, or a zip of Binance's public data.")],
    timeframe: Annotated[str | None, typer.Option(help="The file's timeframe; by its name, else 5m.")] = None,
    refit_h: Annotated[float | None, typer.Option("--refit-h", min=0.1, help="Hours between fits, for --skill.")] = None,
    path: Annotated[int, typer.Option(min=0, max=1440, help="Also the forecast of each of the next minutes.")] = 0,
    skill: Annotated[bool, typer.Option("--skill", help="Also forecast every day of the file from its past and judge it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Forecast the volatility of the next day from a candle file."""
    closes = read_closes(file, timeframe)
    config = load_config(overrides={"risk.garch_refit_h": refit_h}).risk
    # The file's own GARCH, to be checked against any other; what the desk makes of it stands beside it.
    model = _seeded(closes, config.model_copy(update={"ewma_weight": 0.0}))
    answer = _answer(model, path) | {"desk_daily_volatility": _seeded(closes, config).forecast().daily_volatility}
    report = _skill(closes, config) if skill else None
    if as_json:
        print(json.dumps(_plain(answer | ({"skill": _as_json(report)} if report else {}))))
        return
    _print(file, answer, report)


def read_closes(file: Path, timeframe: str | None) -> Closes:
    """Return the closes of a candle file on the grid of its timeframe.

    Raises
    ------
    DataError
        If the file cannot be read as candles, its rows are not in time order, not on the grid or of another timeframe.
    ConfigError
        If the timeframe is not known.
    """
    try:
        if file.stat().st_size > MAX_BYTES:
            raise DataError(f"{file} is larger than {MAX_BYTES // 1024**3} GiB")
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror or error}") from None
    chosen = _timeframe(timeframe) if timeframe else naming_of(file).timeframe or Timeframe.M5
    found = parse_candles(file, content, Naming("file", naming_of(file).symbol or file.stem, chosen))[0]
    return _on_grid(file, found.series.symbol, chosen, found.open_times, found.bars[:, _CLOSE])


def _on_grid(file: Path, symbol: str, timeframe: Timeframe, open_times: np.ndarray, closes: FloatArray) -> Closes:
    steps = np.diff(open_times)
    if len(open_times) == 0 or not (steps > 0).all():
        raise DataError(f"{file} is empty or not in time order (one symbol a file)")
    if (steps % timeframe.ns).any() or (len(steps) and int(np.median(steps)) != timeframe.ns):
        raise DataError(f"{file}: rows are {np.median(steps) / 1e9:g} s apart, which is not {timeframe.value}")
    rows = (open_times - open_times[0]) // timeframe.ns
    if rows[-1] >= _MAX_BARS:
        raise DataError(f"{file}: its times span {rows[-1] + 1:,} bars, more than {_MAX_BARS:,}")
    values = np.full(int(rows[-1]) + 1, np.nan)
    values[rows] = closes
    return Closes(symbol, timeframe, values, int(open_times[-1]) + timeframe.ns)


def _seeded(closes: Closes, config: RiskConfig) -> VolatilityModel:
    from helios.risk.volatility import VolatilityModel  # imports arch: a second and a half that other commands need not wait

    model = VolatilityModel(config, 86_400 // closes.timeframe.seconds, closes.symbol)
    model.seed(closes.values, closes.end_time)
    return model


def _answer(model: VolatilityModel, minutes: int) -> dict[str, Any]:
    forecast = model.forecast()
    answer: dict[str, Any] = {
        "symbol": forecast.symbol,
        "daily_volatility": forecast.daily_volatility,
        "annualized_volatility": forecast.annualized_volatility,
        "regime": forecast.regime.value,
        "method": forecast.method,
        "omega": forecast.omega,
        "alpha": forecast.alpha,
        "beta": forecast.beta,
        "nu": forecast.nu,
        "persistence": model.parameters.persistence,
        "converged": forecast.method == "GARCH",
        "n_returns": model.n_returns,
        "fallback_reason": model.fallback_reason,
        "ratio": model.volatility_ratio(),
    }
    if minutes:
        answer["path"] = np.sqrt(model.minute_path(minutes)).tolist()
    return answer


def _skill(closes: Closes, config: RiskConfig) -> SkillReport:
    from helios.risk.walk_forward import walk_forward

    n = len(closes.values)
    with progress("bars") as shown:
        task = shown.add_task(f"judging {closes.symbol}", total=n)
        return walk_forward(
            closes.values,
            closes.end_time,
            config,
            86_400 // closes.timeframe.seconds,
            closes.symbol,
            lambda done: shown.update(task, completed=done),
        )


def _as_json(report: SkillReport) -> dict[str, Any]:
    against = {name: asdict(found) | {"verdict": report.verdict(name)} for name, found in report.rivals.items()}
    return {
        "qlike": report.losses._asdict(),
        "against": against,
        "n_days": report.n_days,
        "n_skipped": report.n_skipped,
        "fits": report.n_fits,
        "fallbacks": report.n_fallbacks,
        "fit_reasons": report.fit_reasons,
    }


def _plain(value: Any) -> Any:
    # JSON has no NaN
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print(file: Path, answer: dict[str, Any], report: SkillReport | None) -> None:
    table = Table("forecast", "value", title=file.name, caption="Volatilities are fractions; omega is percent squared per bar.")
    for name, value in answer.items():
        if name != "path":
            table.add_row(name, f"{value:.6g}" if isinstance(value, float) else str(value))
    console().print(table)
    for minute, value in enumerate(answer.get("path", []), start=1):
        print(f"minute {minute:>4}  {value:.6%}")
    if report is not None:
        _print_skill(report)


def _print_skill(report: SkillReport) -> None:
    caption = f"{report.n_days} days, one begun each hour; {report.n_fits} fits, {report.n_fallbacks} of them without a usable GARCH."
    table = Table("forecaster", title="QLIKE of the day-ahead variance (lower is better)", caption=caption)
    for heading in ("QLIKE", "model minus it", "p-value"):
        table.add_column(heading, justify="right")
    table.add_column("the model is")
    table.add_row("model", f"{report.losses.model:.4f}", "", "", "")
    for name, found in report.rivals.items():
        loss = getattr(report.losses, name)
        table.add_row(_NAMES[name], f"{loss:.4f}", f"{found.difference:+.4f}", f"{found.p_value:.3f}", report.verdict(name))
    console().print(table)


def _timeframe(name: str) -> Timeframe:
    try:
        return Timeframe(name)
    except ValueError:
        raise ConfigError(f"unknown timeframe {name!r}: {', '.join(t.value for t in Timeframe)}") from None
