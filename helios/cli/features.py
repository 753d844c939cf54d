"""helios features: the model's features and the catalog of candle files, as a table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from helios.cli.app import app
from helios.cli.candle_input import History, read_histories
from helios.cli.control import AsJson
from helios.domain.decisions import FloatArray
from helios.domain.enums import FEATURE_TIMEFRAMES, Timeframe
from helios.domain.market import BAR_VALUES
from helios.errors import ConfigError, DataError
from helios.features.batch import features_of, features_with_reference, resample
from helios.features.definitions import FEATURE_NAMES
from helios.features.multi import newest_closed

REFERENCE_BASE = "BTC"
_NS_PER_MS = 1_000_000


@app.command()
def features(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Candles as Parquet, CSV or Binance zip, of one symbol or several.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Parquet file to write.")],
    timeframe: Annotated[
        str | None, typer.Option(help="The files' timeframe, by default as they say; 1m gives all 90 features, others their own 30.")
    ] = None,
    catalog: Annotated[str | None, typer.Option(help="Also the catalog: all, or families and names separated by commas.")] = None,
    periods: Annotated[
        str | None,
        typer.Option(
            help="Timeframes of the catalog beside minutes: all twelve, groups (micro, short, medium, macro) or e.g. 3m,4h,1w."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compute the features of candle files; unknown values are null. With BTC among the symbols, the correlation to it is known."""
    histories = read_histories(files, timeframe)
    chosen = _periods(periods)
    if periods is not None and (catalog is None or histories[0].timeframe is not Timeframe.M1):
        raise ConfigError("--periods says where the catalog is computed beside minutes: it needs --catalog and files of 1m")
    tables = [pa.table(dict(_columns(history, histories, catalog, chosen))) for history in histories]
    table = pa.concat_tables(tables)
    _write(table, out)
    answer = {
        "rows": table.num_rows,
        "columns": table.num_columns - 1 - (len(histories) > 1),
        "filled": sum(history.n_filled for history in histories),
        "timeframe": histories[0].timeframe.value,
        "symbols": [history.symbol for history in histories],
        "out": str(out),
    }
    print(json.dumps(answer) if as_json else _said(answer))


def _said(answer: dict[str, object]) -> str:
    filled = f" ({answer['filled']:,} of them missing in the files, filled flat)" if answer["filled"] else ""
    return f"{answer['rows']:,} rows of {answer['timeframe']}{filled} -> {answer['out']}"


def _columns(
    history: History, histories: Sequence[History], catalog: str | None, periods: dict[str, int]
) -> Iterator[tuple[str, pa.Array]]:
    yield "ts", pa.array(history.open_times // _NS_PER_MS, pa.timestamp("ms", tz="UTC"))
    if len(histories) > 1:
        yield "symbol", pa.array([history.symbol] * len(history.open_times)).dictionary_encode()
    reference = next((each for each in histories if each.base == REFERENCE_BASE), None)
    if history.timeframe is Timeframe.M1:
        for each in FEATURE_TIMEFRAMES:
            yield from _named(_beside_minutes(history, reference, each), FEATURE_NAMES, f"{each.value}_")
    else:
        yield from _named(_features(history, reference), FEATURE_NAMES, "")
    if catalog is not None:
        yield from _catalog(history, catalog, periods)


def _beside_minutes(history: History, reference: History | None, timeframe: Timeframe) -> FloatArray:
    # As they are known at each minute's close: those of the last bar closed by then.
    higher = _resampled(history, timeframe)
    values = _features(higher, None if reference is None else _resampled(reference, timeframe))
    row = newest_closed(higher.open_times, timeframe, history.open_times + Timeframe.M1.ns)
    aligned = np.full((len(history.open_times), len(FEATURE_NAMES)), np.nan)
    aligned[row >= 0] = values[row[row >= 0]]
    return aligned


def _resampled(history: History, timeframe: Timeframe) -> History:
    bars, open_times = resample(history.bars, history.open_times, timeframe)
    return History(history.symbol, timeframe, open_times, bars, 0)


def _features(history: History, reference: History | None) -> FloatArray:
    if history.base == REFERENCE_BASE:
        return features_with_reference(history.bars, history.bars, is_reference=True)
    if reference is None or not len(reference.open_times):
        return features_of(history.bars)
    beside = np.full((len(history.bars), len(BAR_VALUES)), np.nan)
    row = np.searchsorted(reference.open_times, history.open_times)
    is_there = reference.open_times[np.minimum(row, len(reference.open_times) - 1)] == history.open_times
    beside[is_there] = reference.bars[row[is_there]]
    return features_with_reference(history.bars, beside)


def _catalog(history: History, choice: str, periods: dict[str, int]) -> Iterator[tuple[str, pa.Array]]:
    from helios.features.catalog import compute, compute_multi, names_of  # TA-Lib and pandas: only for who asks for it

    names = names_of(choice)
    if history.timeframe is not Timeframe.M1:
        yield from _named(compute(history.bars, names, history.open_times), names, "catalog_")
        return
    for period, seconds in periods.items():
        values = compute_multi(history.open_times, history.bars, [seconds], names)[:, 0]
        yield from _named(values, names, f"{period}_catalog_")


def _named(values: FloatArray, names: Sequence[str], prefix: str) -> Iterator[tuple[str, pa.Array]]:
    for name, column in zip(names, values.T, strict=True):
        yield prefix + name, pa.array(np.ascontiguousarray(column), from_pandas=True)


def _periods(choice: str | None) -> dict[str, int]:
    from helios.features.catalog.multi import FUSION_PERIODS

    known = {name: seconds for group in FUSION_PERIODS.values() for name, seconds in group.items()}
    if choice is None:
        return {each.value: each.seconds for each in FEATURE_TIMEFRAMES}
    chosen: dict[str, int] = {}
    for word in (part.strip() for part in choice.split(",")):
        found = known if word == "all" else FUSION_PERIODS.get(word) or {name: s for name, s in known.items() if name == word}
        if not found:
            raise ConfigError(f"unknown period {word!r}: all, {', '.join(FUSION_PERIODS)}, {', '.join(known)}")
        chosen |= found
    return chosen


def _write(table: pa.Table, out: Path) -> None:
    try:
        pq.write_table(table, out)
    except OSError as error:
        raise DataError(f"cannot write {out}: {error.strerror or error}") from None
