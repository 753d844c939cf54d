"""One estimation as a value that can be computed anywhere: the request, the pure function, the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from helios.domain.decisions import FloatArray
from helios.errors import SolverError
from helios.risk.garch import VarianceParameters, ewma, fit_garch


@dataclass(frozen=True, slots=True)
class FitRequest:
    """What an estimation needs and whose it is.

    Attributes
    ----------
    symbol : str
    bar_time : int
        Close time of the newest bar in the window, ns UTC.
    returns_pct : ndarray of shape (n_bars,)
        Log returns x 100, oldest first; NaN where one is missing. At least 30 are known.
    min_returns : int
        Known returns from which a GARCH is tried.
    decay : float
        Of the EWMA that stands in for it, per bar.
    """

    symbol: str
    bar_time: int
    returns_pct: FloatArray
    min_returns: int
    decay: float

    @property
    def known(self) -> FloatArray:
        """The returns that are not missing."""
        return self.returns_pct[np.isfinite(self.returns_pct)]

    @property
    def is_garch(self) -> bool:
        """Whether the optimiser will run: some twenty milliseconds against none."""
        return int(np.isfinite(self.returns_pct).sum()) >= self.min_returns


@dataclass(frozen=True, slots=True)
class FitResult:
    """Parameters for the symbol at that bar; `reason` says why an EWMA stands in where a GARCH was tried, else it is empty."""

    symbol: str
    bar_time: int
    parameters: VarianceParameters
    method: str
    is_garch_tried: bool
    reason: str = ""


FitAll = Callable[[Sequence[FitRequest]], Iterable[FitResult]]


def fit(request: FitRequest) -> FitResult:
    """Estimate a GARCH, or an EWMA where there is too little history or the GARCH gives no usable answer.

    Pure and deterministic: the same request gives the same bits in every process of one machine. Machines of another make may
    differ in the last digits of what the optimiser finds.

    Raises
    ------
    InsufficientHistoryError
        Below 30 known returns.
    """
    known, reason = request.known, ""
    is_tried = known.size >= request.min_returns
    if is_tried:
        try:
            return FitResult(request.symbol, request.bar_time, fit_garch(known), "GARCH", is_garch_tried=True)
        except SolverError as error:
            reason = str(error)
    return FitResult(request.symbol, request.bar_time, ewma(known, request.decay), "EWMA", is_tried, reason)


def fit_all(requests: Sequence[FitRequest]) -> list[FitResult]:
    """Fit one after the other, here."""
    return [fit(request) for request in requests]
