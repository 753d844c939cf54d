"""Bodies the API accepts. Unknown fields are refused."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from helios.domain.decisions import N_FEATURES, WINDOW_STEPS

MAX_WINDOWS = 64
WINDOW_SHAPE = (3, WINDOW_STEPS, N_FEATURES)
Number = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=40)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PredictBody(_Body):
    """Feature windows to classify: n x 3 timeframes x 60 steps x 30 features, null where unknown, n at most 64."""

    windows: list[list[list[list[float | None]]]] = Field(min_length=1, max_length=MAX_WINDOWS)

    @field_validator("windows")
    @classmethod
    def _shape(cls, windows: list[list[list[list[float | None]]]]) -> list[list[list[list[float | None]]]]:
        n_timeframes, n_steps, n_features = WINDOW_SHAPE
        for i, window in enumerate(windows):
            if len(window) != n_timeframes:
                raise ValueError(f"window {i} has {len(window)} timeframes, not {n_timeframes}")
            if any(len(branch) != n_steps for branch in window):
                raise ValueError(f"window {i} has a timeframe without exactly {n_steps} steps")
            if any(len(step) != n_features for branch in window for step in branch):
                raise ValueError(f"window {i} has a step without exactly {n_features} features")
        return windows

    def values(self) -> NDArray[np.float32]:
        """Return float32 of shape (n, 3, 60, 30), NaN where unknown.

        Raises
        ------
        ValueError
            If a number does not fit into float32.
        """
        wide = np.array(self.windows, dtype=np.float64)
        if np.any(np.abs(wide) > np.finfo(np.float32).max):
            raise ValueError("windows: a number is infinite or too large")
        return wide.astype(np.float32)


class EmergencyBody(_Body):
    """Why everything is to be closed now; kept with the event."""

    reason: Text = "operator"


class SymbolBody(_Body):
    """A symbol of the venue, in any usual spelling."""

    symbol: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=40)]


class ResetBody(_Body):
    """Which breaker a person releases; all of them without a code."""

    code: Text | None = None


class ModeBody(_Body):
    """The trading mode, and for LIVE the exact confirmation."""

    mode: Text
    confirmation: Annotated[str, StringConstraints(max_length=200)] = ""


class MovementBody(_Body):
    """Money that came or, below zero, went without a trade: a transfer, or funding of a perpetual. Amounts are text, to stay exact.

    `value` is what another currency was worth in the account's own. The same `movement_id` again changes nothing.
    """

    kind: Literal["transfer", "funding"]
    amount: Number
    symbol: Annotated[str, StringConstraints(max_length=40)] = ""
    currency: Annotated[str, StringConstraints(max_length=20)] = ""
    value: Annotated[str, StringConstraints(max_length=40)] = ""
    movement_id: Text | None = None
