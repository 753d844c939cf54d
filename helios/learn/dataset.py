"""Training windows, gathered lazily: an index over per-timeframe feature rows, so that memory stays small."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helios.domain.decisions import N_FEATURES, WINDOW_STEPS, Float32Array, FloatArray
from helios.domain.enums import FEATURE_TIMEFRAMES, Timeframe
from helios.domain.market import BAR_VALUES
from helios.errors import InsufficientHistoryError
from helios.features.batch import features_of, features_with_reference, resample
from helios.features.definitions import CANDLE_COLUMNS, WINDOW_WARMUP_BARS, schema_hash
from helios.learn.labels import BarrierOutcome, BarrierSpec, label_bars
from helios.learn.scaling import FeatureScaler

IntArray = NDArray[np.int64]
History = Mapping[str, tuple[IntArray, FloatArray]]
HIGH, LOW, CLOSE = (BAR_VALUES.index(name) for name in ("high", "low", "close"))
MAX_SCALER_ROWS = 300_000  # moments of more rows change nothing but cost gigabytes in double precision
DECISION = FEATURE_TIMEFRAMES.index(Timeframe.M5)


@dataclass(frozen=True, slots=True, eq=False)
class SymbolSeries:
    """Feature rows of one symbol: per timeframe the close times (ns, ascending) and rows of shape (n, 30), float32."""

    symbol: str
    close_times: tuple[IntArray, ...]
    features: tuple[Float32Array, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Decisions at 5m closes; row i is `symbol_index[i]` at `times[i]`.

    Attributes
    ----------
    series : tuple of SymbolSeries
    symbol_index : int64 array of shape (n,)
    ends : int64 array of shape (n, 3)
        One past the last feature row known at the decision, per timeframe.
    times : int64 array of shape (n,)
        Decision time: the close of the 5m bar, ns UTC.
    labels : int8 array of shape (n,)
        0, 1, 2.
    exit_returns : float64 array of shape (n, 2)
        Return after costs of the long and of the short.
    stop_pcts : float64 array of shape (n,)
        Distance of the stop that both had, as a fraction of the price.
    """

    series: tuple[SymbolSeries, ...]
    symbol_index: IntArray
    ends: IntArray
    times: IntArray
    labels: NDArray[np.int8]
    exit_returns: FloatArray
    stop_pcts: FloatArray

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, rows: IntArray) -> Float32Array:
        """Return the windows of some rows: float32 of shape (len(rows), 3, 60, 30), NaN where unknown."""
        windows = np.empty((len(rows), len(FEATURE_TIMEFRAMES), WINDOW_STEPS, N_FEATURES), dtype=np.float32)
        for i, row in enumerate(rows):
            features = self.series[self.symbol_index[row]].features
            for j, end in enumerate(self.ends[row]):
                windows[i, j] = features[j][end - WINDOW_STEPS : end]
        return windows

    def last_rows(self, rows: IntArray) -> Float32Array:
        """Return the newest feature row per timeframe: float32 of shape (len(rows), 3, 30)."""
        out = np.empty((len(rows), len(FEATURE_TIMEFRAMES), N_FEATURES), dtype=np.float32)
        for i, row in enumerate(rows):
            features = self.series[self.symbol_index[row]].features
            for j, end in enumerate(self.ends[row]):
                out[i, j] = features[j][end - 1]
        return out

    def digest(self) -> str:
        """Return a short hash of everything a model could learn from."""
        hasher = hashlib.sha256(schema_hash().encode())
        for part in self.series:
            hasher.update(part.symbol.encode())
            for features in part.features:
                hasher.update(np.ascontiguousarray(features).tobytes())
        for array in (self.symbol_index, self.ends, self.times, self.labels):
            hasher.update(np.ascontiguousarray(array).tobytes())
        return hasher.hexdigest()[:16]


def build_windows(bars_by_symbol: History, reference_symbol: str | None, stride: int, spec: BarrierSpec | None = None) -> Dataset:
    """Build the dataset of every `stride`-th decision bar of all symbols.

    Parameters
    ----------
    bars_by_symbol : mapping of symbol to (open_times of shape (n,), bars of shape (n, 13))
        Consecutive 1m bars, columns as in `BAR_VALUES`, NaN where unknown.
    reference_symbol : str or None
        Whose returns `btc_correlation_60` is taken with; None leaves that column unknown.
    stride : int
        Distance of decisions in 5m bars. Labels reach a day ahead, so neighbours say nearly the same thing.
    spec : BarrierSpec or None
        Exits that the labels use; None takes the desk's.

    Raises
    ------
    InsufficientHistoryError
        If no decision has a full window and a label.
    """
    chosen = spec or BarrierSpec()
    frames = {symbol: _timeframes(*history) for symbol, history in bars_by_symbol.items()}
    reference = frames.get(reference_symbol or "")
    parts = []
    for number, (symbol, frame) in enumerate(frames.items()):
        parts.append(_symbol_part(number, symbol, frame, reference, stride, chosen))
    return _joined([series for series, _ in parts], [index for _, index in parts])


def concatenate(datasets: Sequence[Dataset]) -> Dataset:
    """Put datasets (of different markets) side by side."""
    offsets = np.cumsum([0, *(len(d.series) for d in datasets[:-1])])
    return Dataset(
        tuple(series for d in datasets for series in d.series),
        np.concatenate([d.symbol_index + offset for d, offset in zip(datasets, offsets, strict=True)]),
        np.concatenate([d.ends for d in datasets]),
        np.concatenate([d.times for d in datasets]),
        np.concatenate([d.labels for d in datasets]),
        np.concatenate([d.exit_returns for d in datasets]),
        np.concatenate([d.stop_pcts for d in datasets]),
    )


def fit_scaler(dataset: Dataset, rows: IntArray) -> FeatureScaler:
    """Fit the scaler on the feature rows up to the last training decision of each symbol, and nothing later."""
    last = int(dataset.times[rows].max())
    known = []
    for j in range(len(FEATURE_TIMEFRAMES)):
        parts = [s.features[j][: np.searchsorted(s.close_times[j], last, side="right")] for s in dataset.series]
        step = max(1, sum(len(part) for part in parts) // MAX_SCALER_ROWS)
        known.append(np.concatenate([part[::step] for part in parts]))
    return FeatureScaler.fit(known)


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    """Bars of one timeframe with their close times."""

    close_times: IntArray
    bars: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class _Index:
    """The decisions of one symbol."""

    symbol_index: IntArray
    ends: IntArray
    times: IntArray
    labels: NDArray[np.int8]
    exit_returns: FloatArray
    stop_pcts: FloatArray


def _timeframes(open_times: IntArray, bars: FloatArray) -> tuple[_Frame, ...]:
    frames = []
    for timeframe in FEATURE_TIMEFRAMES:
        values, times = resample(bars, open_times, timeframe)
        frames.append(_Frame(times + timeframe.ns, values))
    return tuple(frames)


def _symbol_part(
    number: int,
    symbol: str,
    frames: tuple[_Frame, ...],
    reference: tuple[_Frame, ...] | None,
    stride: int,
    spec: BarrierSpec,
) -> tuple[SymbolSeries, _Index]:
    features = tuple(_feature_rows(frame, None if reference is None else reference[j]) for j, frame in enumerate(frames))
    series = SymbolSeries(symbol, tuple(frame.close_times for frame in frames), features)
    decision = frames[DECISION]
    outcome = label_bars(decision.bars[:, CLOSE], decision.bars[:, HIGH], decision.bars[:, LOW], spec)
    return series, _decisions(number, series, outcome, stride)


def _feature_rows(frame: _Frame, reference: _Frame | None) -> Float32Array:
    if reference is None:
        return features_of(frame.bars).astype(np.float32)
    same = _aligned(frame.close_times, reference)
    return features_with_reference(frame.bars, same, is_reference=frame is reference).astype(np.float32)


def _aligned(wanted: IntArray, reference: _Frame) -> FloatArray:
    """The reference's bars at equal times, NaN where it has none."""
    place = np.minimum(np.searchsorted(reference.close_times, wanted), len(reference.close_times) - 1)
    return np.where((reference.close_times[place] == wanted)[:, None], reference.bars[place], np.nan)


def _decisions(number: int, series: SymbolSeries, outcome: BarrierOutcome, stride: int) -> _Index:
    times = series.close_times[DECISION]
    # side="right": a bar that closes exactly at the decision is known, one that closes later is not
    ends = np.stack([np.searchsorted(closes, times, side="right") for closes in series.close_times], axis=1)
    usable = (outcome.labels >= 0) & _is_warm(series, ends)
    chosen = np.flatnonzero(usable & (np.arange(len(times)) % stride == 0))
    return _Index(
        np.full(len(chosen), number, dtype=np.int64),
        ends[chosen].astype(np.int64),
        times[chosen],
        outcome.labels[chosen],
        outcome.exit_returns[chosen],
        outcome.stop_pcts[chosen],
    )


def _is_warm(series: SymbolSeries, ends: IntArray) -> NDArray[np.bool_]:
    """Whether a full window exists whose candle features are all known, as the stream judges it, per decision."""
    warm = np.ones(len(ends), dtype=np.bool_)
    for j, features in enumerate(series.features):
        known = np.isfinite(features[:, CANDLE_COLUMNS]).all(axis=1)
        counted = np.concatenate([[0], np.cumsum(known)])
        end = ends[:, j]
        begin = np.maximum(end - WINDOW_STEPS, 0)
        warm &= (end >= WINDOW_WARMUP_BARS) & (counted[end] - counted[begin] == WINDOW_STEPS)
    return warm


def _joined(series: list[SymbolSeries], parts: list[_Index]) -> Dataset:
    if not sum(len(part.labels) for part in parts):
        raise InsufficientHistoryError("no decision has a full window and a label; more history is needed")
    return Dataset(
        tuple(series),
        np.concatenate([p.symbol_index for p in parts]),
        np.concatenate([p.ends for p in parts]),
        np.concatenate([p.times for p in parts]),
        np.concatenate([p.labels for p in parts]),
        np.concatenate([p.exit_returns for p in parts]),
        np.concatenate([p.stop_pcts for p in parts]),
    )
