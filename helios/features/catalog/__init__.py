"""Named features beyond the model's thirty, for research and tree models: causal, scale-free where possible, never made up.

Nine families: price, momentum, volatility, volume, microstructure, statistical, pattern (TA-Lib's 61 candlestick patterns),
derived, and the grid bot's own set. Undefined values are NaN (nothing moved, nothing traded), and so are values whose input is
unknown; flows over bars without trades are 0, and columns taken from TA-Lib keep TA-Lib's rule for such cases. Chart patterns,
Elliott waves and harmonic patterns are left out on purpose; see `patterns`.
"""

from __future__ import annotations

from helios.features.catalog.frame import CatalogFeature, Frame
from helios.features.catalog.grid import GRID_SAMPLE, microstructure_score
from helios.features.catalog.multi import FUSION_PERIODS, align_closed, compute_multi, resample_seconds
from helios.features.catalog.registry import CATALOG, FAMILIES, compute, names_of
from helios.features.catalog.stream import CatalogStream

__all__ = [
    "CATALOG",
    "FAMILIES",
    "FUSION_PERIODS",
    "GRID_SAMPLE",
    "CatalogFeature",
    "CatalogStream",
    "Frame",
    "align_closed",
    "compute",
    "compute_multi",
    "microstructure_score",
    "names_of",
    "resample_seconds",
]
