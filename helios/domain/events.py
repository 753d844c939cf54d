"""Engine events and marks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """A state change, alert or fault. `severity` is INFO, WARNING or CRITICAL; `data` is plain JSON."""

    kind: str
    severity: str
    component: str
    message: str
    ts_event: int
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Mark:
    """The price at which positions in `symbol` are valued from `ts_event` on."""

    symbol: str
    price: float
    ts_event: int
