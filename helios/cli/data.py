"""Commands on files: features; and the sandbox exchange alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from helios.cli.app import app
from helios.cli.control import AsJson
from helios.domain.decisions import FloatArray
from helios.domain.enums import FEATURE_TIMEFRAMES, Timeframe
from helios.domain.market import BAR_VALUES
from helios.errors import ConfigError, DataError
from helios.features.batch import features_of, fill_minutes, resample
from helios.features.definitions import FEATURE_NAMES

CANDLE_COLUMNS = ("ts", "open", "high", "low", "close", "volume")


@app.command()
def features(
    file: Annotated[Path, typer.Argument(help="Candles as Parquet: ts (open time, UTC), open, high, low, close, volume.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Parquet file to write.")],
    timeframe: Annotated[str, typer.Option(help="The file's timeframe; 1m gives all 90, others their own 30.")] = "1m",
    catalog: Annotated[str | None, typer.Option(help="Also the catalog: all, or families and names separated by commas.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compute the features of a candle file; unknown values are null."""
    opens, bars = read_candles(file)
    table = {"ts": pa.array(opens // 1_000_000, pa.timestamp("ms", tz="UTC"))}
    chosen = _timeframe(timeframe)
    if chosen is Timeframe.M1:
        opens, bars = fill_minutes(opens, bars)
        table = {"ts": pa.array(opens // 1_000_000, pa.timestamp("ms", tz="UTC"))}
        for each in FEATURE_TIMEFRAMES:
            table |= _columns(_aligned(opens, bars, each), f"{each.value}_")
    else:
        table |= _columns(features_of(bars), "")
    if catalog is not None:
        table |= _catalog_columns(opens, bars, chosen, catalog)
    try:
        pq.write_table(pa.table(table), out)
    except OSError as error:
        raise DataError(f"cannot write {out}: {error.strerror or error}") from None
    print(json.dumps({"rows": len(opens), "columns": len(table) - 1, "out": str(out)}) if as_json else f"{len(opens)} rows -> {out}")


def _aligned(opens: np.ndarray, bars: FloatArray, timeframe: Timeframe) -> FloatArray:
    """Features of `timeframe` as they are known at each minute's close: the last bar closed by then."""
    if timeframe is Timeframe.M1:
        return features_of(bars)
    higher, higher_opens = resample(bars, opens, timeframe)
    values = features_of(higher)
    closes = higher_opens + timeframe.ns
    row = np.searchsorted(closes, opens + Timeframe.M1.ns, side="right") - 1
    aligned = np.full((len(opens), values.shape[1]), np.nan)
    aligned[row >= 0] = values[row[row >= 0]]
    return aligned


def _columns(values: FloatArray, prefix: str) -> dict[str, pa.Array]:
    return {prefix + name: pa.array(values[:, i], from_pandas=True) for i, name in enumerate(FEATURE_NAMES)}


def _catalog_columns(opens: np.ndarray, bars: FloatArray, timeframe: Timeframe, choice: str) -> dict[str, pa.Array]:
    from helios.features.catalog import compute, compute_multi, names_of  # TA-Lib and pandas: only for who asks for it

    names = names_of(choice)
    if timeframe is not Timeframe.M1:
        values = compute(bars, names, opens)
        return {f"catalog_{name}": pa.array(column, from_pandas=True) for name, column in zip(names, values.T, strict=True)}
    fused = compute_multi(opens, bars, [each.seconds for each in FEATURE_TIMEFRAMES], names)
    return {
        f"{each.value}_catalog_{name}": pa.array(np.ascontiguousarray(fused[:, i, j]), from_pandas=True)
        for i, each in enumerate(FEATURE_TIMEFRAMES)
        for j, name in enumerate(names)
    }


def read_candles(file: Path) -> tuple[np.ndarray, FloatArray]:
    """Return open times (ns UTC) and bars of shape (n, 13) in BAR_VALUES order.

    Raises
    ------
    DataError
        If the file is missing, is not Parquet, lacks a column, has one of another kind, or is not in time order.
    """
    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot read {file}: {str(error).splitlines()[0]}") from None
    missing = [c for c in CANDLE_COLUMNS if c not in table.column_names]
    if missing:
        raise DataError(f"{file} has no column {missing[0]!r}")
    try:
        opens = table["ts"].cast(pa.timestamp("ns", tz="UTC")).to_numpy().astype("datetime64[ns]").astype(np.int64)
        values = [table[name].cast(pa.float64()).to_numpy() for name in CANDLE_COLUMNS[1:]]
    except (pa.ArrowException, OverflowError) as error:
        raise DataError(f"{file} has a column of the wrong kind: {str(error).splitlines()[0]}") from None
    if len(opens) == 0 or not (np.diff(opens) > 0).all():
        raise DataError(f"{file} is empty or not in time order")
    bars = np.full((len(opens), len(BAR_VALUES)), np.nan)
    for index, column in enumerate(values):
        bars[:, index] = column
    return opens, bars


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
def sandbox(context: typer.Context) -> None:
    """Run the exchange alone, for any client that speaks VALR's protocol (helios sandbox --help)."""
    from helios.venues.sandbox.process import main

    sys.exit(main(context.args))


def _timeframe(name: str) -> Timeframe:
    try:
        return Timeframe(name)
    except ValueError:
        raise ConfigError(f"unknown timeframe {name!r}: {', '.join(t.value for t in Timeframe)}") from None


def _print(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(answer))
        return
    for name, value in answer.items():
        for line in value if isinstance(value, list) else [value]:
            print(f"{name:>22}  {line}")
