"""Stands in for the peers of symbol actors in a benchmark. Light: whoever looks an actor up by name imports its class."""

from __future__ import annotations

from typing import Any


class Sink:
    """Takes what a symbol's owner sends to its peers; with it the desk costs only what the owners themselves cost."""

    def __init__(self) -> None:
        self.bars = 0

    def add(self, bars: list[Any], *_: Any) -> None:
        self.bars += len(bars)

    def add_trades(self, trades: list[Any]) -> None: ...

    def submit(self, windows: list[Any]) -> None: ...

    def mark(self, marks: list[Any]) -> None: ...

    def exits(self, triggers: list[Any]) -> list[Any]:
        return []

    def exit_plans(self) -> list[Any]:
        return []

    def record_event(self, event: Any) -> None: ...
