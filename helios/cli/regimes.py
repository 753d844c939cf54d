"""helios regimes: the state of markets in words, from candle files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from helios.cli.app import app
from helios.cli.candle_input import History, read_histories
from helios.cli.control import AsJson
from helios.cli.history_print import console, iso
from helios.config import RiskConfig, load_config
from helios.domain.decisions import FloatArray
from helios.domain.enums import Timeframe, VolatilityRegime
from helios.domain.market import BAR_VALUES
from helios.errors import SkipError
from helios.features.regimes import (
    DEEP_VOLUME,
    LONG_DAYS,
    NORMAL_VOLUME,
    SHORT_DAYS,
    UNKNOWN,
    DetectorSettings,
    MarketRegimeDetector,
    RegimeReading,
    combined_regime,
    correlation_regime,
    correlations,
    liquidity_regime,
    trend_regime,
)
from helios.features.rolling import rolling_trend

DAY_NS = Timeframe.D1.ns
CORRELATION_DAYS = 30
LIQUIDITY_DAYS = 7
DETECTOR_BARS = 1_000
_CLOSE, _VOLUME = BAR_VALUES.index("close"), BAR_VALUES.index("volume")


@dataclass(frozen=True, slots=True)
class _Days:
    # Closes at the end of whole UTC days, and those days' ends, ns.
    ends: np.ndarray
    closes: FloatArray

    def returns_on(self, ends: np.ndarray) -> FloatArray:
        # Log returns of the days that end then; NaN where one of its two closes is not known.
        by_end = dict(zip(self.ends.tolist(), np.log(self.closes).tolist(), strict=True))
        return np.array([by_end.get(end, math.nan) - by_end.get(end - DAY_NS, math.nan) for end in ends.tolist()])


@app.command()
def regimes(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Candles as Parquet, CSV or Binance zip, of one or more symbols.")
    ],
    timeframe: Annotated[str | None, typer.Option(help="The files' timeframe, by default as they say.")] = None,
    deep: Annotated[
        float, typer.Option(min=0.0, help="Mean base volume of five minutes above which a market is DEEP.")
    ] = DEEP_VOLUME,
    normal: Annotated[float, typer.Option(min=0.0, help="The same for NORMAL; both need calibration per pair.")] = NORMAL_VOLUME,
    as_json: AsJson = False,
) -> None:
    """Name trend, volatility, liquidity, correlation and the grid bot's regime of each symbol at the end of its file."""
    histories = read_histories(files, timeframe)
    config = load_config().risk
    days = {history.symbol: _days(history) for history in histories}
    answers = [_answer(history, days, config, deep, normal) for history in histories]
    if as_json:
        print(json.dumps({"regimes": [_plain(answer) for answer in answers]}))
    else:
        _print(answers)


def _answer(history: History, days: Mapping[str, _Days], config: RiskConfig, deep: float, normal: float) -> dict[str, Any]:
    own = days[history.symbol]
    trend, volatility = trend_regime(own.closes.tolist()), _volatility(history, config)
    found = _correlations(history.symbol, days)
    return {
        "symbol": history.symbol,
        "at": iso(int(history.open_times[-1]) + history.timeframe.ns),
        "trend": trend,
        "volatility": UNKNOWN if volatility is None else volatility.value,
        "liquidity": liquidity_regime(_mean_volume(history), deep, normal),
        "correlation": correlation_regime(found),
        "correlations": found,
        "combined": asdict(combined_regime(trend, volatility, _strength(own.closes))),
        "grid": asdict(_reading(history)),
        "days": len(own.closes),
        "days_needed": LONG_DAYS,
    }


def _days(history: History) -> _Days:
    ends = history.open_times + history.timeframe.ns
    is_last = ends % DAY_NS == 0
    return _Days(ends[is_last], history.bars[is_last, _CLOSE])


def _volatility(history: History, config: RiskConfig) -> VolatilityRegime | None:
    from helios.risk.volatility import VolatilityModel  # imports arch: a second and a half that other commands need not wait

    model = VolatilityModel(config, max(1, 86_400 // history.timeframe.seconds), history.symbol)
    try:
        model.seed(history.bars[:, _CLOSE], int(history.open_times[-1]) + history.timeframe.ns)
        return model.forecast().regime
    except SkipError:  # too few returns for a forecast
        return None


def _mean_volume(history: History) -> float:
    n_bars = LIQUIDITY_DAYS * DAY_NS // history.timeframe.ns
    if len(history.bars) < n_bars:
        return math.nan
    return float(history.bars[-n_bars:, _VOLUME].sum()) / (LIQUIDITY_DAYS * DAY_NS // Timeframe.M5.ns)


def _correlations(symbol: str, days: Mapping[str, _Days]) -> dict[str, float]:
    ends = days[symbol].ends[-CORRELATION_DAYS:]
    others = {name: each.returns_on(ends) for name, each in days.items() if name != symbol}
    return correlations(days[symbol].returns_on(ends), others)


def _strength(closes: FloatArray) -> float:
    # As the catalog's trend_strength_20, of days.
    if len(closes) < SHORT_DAYS:
        return math.nan
    trend = rolling_trend(np.log(closes[-SHORT_DAYS:]), SHORT_DAYS)
    slope = float(trend.slope[-1])
    return 0.0 if slope == 0.0 else math.copysign(float(trend.r_squared[-1]), slope)


def _reading(history: History) -> RegimeReading:
    detector = MarketRegimeDetector(DetectorSettings(bars_per_day=86_400 / history.timeframe.seconds))
    rows = history.bars[-DETECTOR_BARS:]
    return [detector.update(float(row[_CLOSE]), float(row[_VOLUME])) for row in rows][-1]


def _plain(value: Any) -> Any:
    # JSON has no NaN.
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print(answers: Sequence[dict[str, Any]]) -> None:
    table = Table("symbol", "at", "trend", "volatility", "liquidity", "correlation", "combined", "grid bot", box=None)
    for answer in answers:
        grid = answer["grid"]
        table.add_row(
            answer["symbol"], answer["at"], answer["trend"], answer["volatility"], answer["liquidity"], answer["correlation"],
            " / ".join(answer["combined"].values()), f"{grid['regime']} ({grid['confidence']:.0%})",
        )  # fmt: skip
    console().print(table)
    for answer in answers:
        if answer["days"] < LONG_DAYS:
            print(f"{answer['symbol']}: {answer['days']} whole days; the trend needs {LONG_DAYS}")
