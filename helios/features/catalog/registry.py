"""The catalog by name, and its values over a whole history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np

from helios.domain.decisions import FloatArray
from helios.errors import ConfigError
from helios.features.catalog import derived, grid, microstructure, momentum, patterns, price, statistics, volatility, volume
from helios.features.catalog.frame import CatalogFeature, Frame, TimeArray

_MODULES = (price, momentum, volatility, volume, microstructure, statistics, patterns, derived, grid)


def _by_name(features: Iterable[CatalogFeature]) -> Mapping[str, CatalogFeature]:
    found: dict[str, CatalogFeature] = {}
    for feature in features:
        assert feature.name not in found, f"two features are called {feature.name}"
        found[feature.name] = feature
    return MappingProxyType(found)


CATALOG: Final[Mapping[str, CatalogFeature]] = _by_name(feature for module in _MODULES for feature in module.FEATURES)
"""All features by name, in column order."""

FAMILIES: Final[tuple[str, ...]] = tuple(dict.fromkeys(feature.family for feature in CATALOG.values()))
"""Families in column order."""


def names_of(choice: str) -> tuple[str, ...]:
    """Return the names that a comma-separated list of names and families means; "all" is every one.

    Raises
    ------
    ConfigError
        If a word is neither.
    """
    chosen: dict[str, None] = {}
    for word in (part.strip() for part in choice.split(",")):
        found = [name for name, feature in CATALOG.items() if word in ("all", name, feature.family)]
        if not found:
            raise ConfigError(f"the catalog has neither a feature nor a family {word!r}; families: {', '.join(FAMILIES)}")
        chosen |= dict.fromkeys(found)
    return tuple(chosen)


def chosen_features(names: Sequence[str] | None) -> tuple[CatalogFeature, ...]:
    """Return the features of these names in their order; all of them for None.

    Raises
    ------
    ConfigError
        If a name is unknown.
    """
    if names is None:
        return tuple(CATALOG.values())
    unknown = [name for name in names if name not in CATALOG]
    if unknown:
        raise ConfigError(f"the catalog has no feature {unknown[0]!r}")
    return tuple(CATALOG[name] for name in names)


def compute(
    bars: FloatArray,
    names: Sequence[str] | None = None,
    open_times: TimeArray | None = None,
    mid: FloatArray | None = None,
) -> FloatArray:
    """Return catalog features of consecutive bars of one timeframe.

    Row i depends on rows 0..i only; the value no longer changes when bars older than the feature's `lookback` are cut.

    Parameters
    ----------
    bars : float64 array of shape (n_bars, 13)
        Columns in the order of `BAR_VALUES`, oldest first, without holes (see `batch.fill_minutes`).
    names : sequence of str, optional
        Which, in this order; default all, in the catalog's order.
    open_times : int64 array of shape (n_bars,), optional
        ns UTC; features that need a calendar or the bar's length are NaN without.
    mid : float64 array of shape (n_bars,), optional
        Mid prices at the closes; features that need them are NaN without.

    Returns
    -------
    features : float64 array of shape (n_bars, n_names)
        NaN where history or input is missing or the value is undefined; never infinite.

    Raises
    ------
    DataError
        If a shape is wrong, times do not increase, or a price or volume is unusable.
    ConfigError
        If a name is unknown.
    """
    return values_of(chosen_features(names), Frame(bars, open_times, mid))


def values_of(features: Sequence[CatalogFeature], frame: Frame) -> FloatArray:
    """Return the features' columns for one frame, shape (n_bars, n_features), by column in memory."""
    out = np.empty((len(features), frame.n_bars))
    if frame.n_bars:
        # 0/0 where a market stands still and overflow at absurd prices are expected; both end as NaN.
        with np.errstate(all="ignore"):
            for row, feature in zip(out, features, strict=True):
                row[:] = feature.compute(frame)
    out[~np.isfinite(out)] = np.nan
    return out.T
