"""A desk in one process over recorded or synthetic candles, with a model that needs no weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from helios.config import HeliosConfig, load_config
from helios.domain.decisions import DecisionTrace, FeatureWindow, Prediction
from helios.domain.enums import Action
from helios.domain.market import BAR_VALUES, Bar, BookUpdate, Instrument, Trade
from helios.features.definitions import FEATURE_NAMES
from helios.pipeline.local import LocalDesk
from helios.venues.base import ReplaySource
from helios.venues.replay.open import open_replay
from helios.venues.sandbox.history import synthetic_history
from tests.support.pipeline_values import ticking

_RETURN_20 = FEATURE_NAMES.index("return_20")
_RSI = FEATURE_NAMES.index("rsi_14")


class MomentumModel:
    """Follows the last twenty bars: sure enough to trade now and then, and a pure function of the window."""

    def predict_windows(self, windows: Sequence[FeatureWindow]) -> list[Prediction]:
        return [self._predict(w) for w in windows]

    def _predict(self, window: FeatureWindow) -> Prediction:
        newest = window.values[:, -1, :].astype(np.float64)
        push = 120.0 * newest[1, _RETURN_20] + 0.03 * (newest[0, _RSI] - 50.0)
        odds = np.exp(np.array([push, -push, 0.2]))
        p = np.round(odds / odds.sum(), 6).tolist()
        best = int(np.argmax(p))
        return Prediction(window.symbol, window.bar_time, Action(best), p[best], (p[0], p[1], p[2]), (0.4, 0.3, 0.3), "momentum")


class ChangedFuture:
    """A source whose candles after `cut_ns` are missing (`factor` None) or moved by `factor`."""

    def __init__(self, source: ReplaySource, cut_ns: int, factor: float | None) -> None:
        self._source = source
        self._cut_ns = cut_ns
        self._factor = factor

    @property
    def instrument(self) -> Instrument:
        return self._source.instrument

    @property
    def start_ns(self) -> int:
        return self._source.start_ns

    @property
    def end_ns(self) -> int:
        return self._source.end_ns if self._factor is not None else min(self._cut_ns, self._source.end_ns)

    def read_until(self, until_ns: int) -> Sequence[Bar | Trade | BookUpdate]:
        return [changed for event in self._source.read_until(until_ns) if (changed := self._changed(event)) is not None]

    def _changed(self, event: Bar | Trade | BookUpdate) -> Bar | None:
        assert isinstance(event, Bar)
        if event.close_time <= self._cut_ns:
            return event
        if self._factor is None:
            return None
        f = self._factor
        return replace(event, open=event.open * f, high=event.high * f, low=event.low * f, close=event.close * f)


def write_synthetic(directory: Path, n_minutes: int, seed: int = 5) -> Path:
    """Write synthetic minutes of two markets as a replay directory."""
    pairs = {"BTC/ZAR": "BTCZAR", "ETH/ZAR": "ETHZAR"}
    directory.mkdir(parents=True)
    for symbol, (opens, values) in synthetic_history(tuple(pairs), n_minutes, seed).items():
        table = {"ts": pa.array(opens // 1_000_000, pa.timestamp("ms", tz="UTC"))}
        table |= {name: pa.array(values[:, BAR_VALUES.index(name)]) for name in ("open", "high", "low", "close", "volume")}
        pq.write_table(pa.table(table), directory / f"{pairs[symbol]}_1m.parquet")
    return directory


def make_config(**further: object) -> HeliosConfig:
    """Defaults, with entries often enough that a short test sees trades; `further` as section__key=value."""
    changes = {"risk.min_confidence": 0.5, "risk.timeout_h": 2.0, "limits.max_entries_per_day": 200, "risk.garch_min_returns": 100}
    named = {name.replace("__", "."): value for name, value in further.items()}
    return load_config(env={}, overrides=changes | named)


def make_desk(
    directory: Path,
    symbols: Sequence[str] | None = None,
    cut_ns: int | None = None,
    factor: float | None = None,
    **further: object,
) -> LocalDesk:
    sources: Mapping[str, ReplaySource] = open_replay(str(directory), symbols)
    if cut_ns is not None:
        sources = {s: ChangedFuture(source, cut_ns, factor) for s, source in sources.items()}
    reference = next(s for s in sources if s.startswith("BTC"))
    return LocalDesk(make_config(**further), sources, MomentumModel(), reference, ticking())


def packed(traces: Sequence[DecisionTrace]) -> bytes:
    """Traces as bytes, in order."""
    return orjson.dumps(list(traces))
