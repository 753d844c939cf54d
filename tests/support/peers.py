"""Actors as their peers see them: `peers(name).method.remote(...)`, hand-written answers, every call kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from actors.base import DeskSpec
from helios.config import load_config

Answer = Callable[..., Any]


class _Method:
    def __init__(self, peer: Peer, name: str) -> None:
        self._peer = peer
        self._name = name

    def remote(self, *arguments: Any) -> Awaitable[Any]:
        self._peer.calls.append((self._name, arguments))
        return asyncio.ensure_future(self._answer(arguments))

    async def _answer(self, arguments: tuple[Any, ...]) -> Any:
        answer = self._peer.answers.get(self._name)
        result = answer(*arguments) if callable(answer) else answer
        if isinstance(result, Exception):
            raise result
        return result


class Peer:
    """One actor handle; an answer is a value, a function of the arguments, or an exception to raise."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> _Method:
        if name.startswith("_"):
            raise AttributeError(name)
        return _Method(self, name)

    # test methods

    def called(self, method: str) -> list[tuple[Any, ...]]:
        """Arguments of each call of `method`."""
        return [arguments for name, arguments in self.calls if name == method]


class Peers:
    """All handles by name."""

    def __init__(self, **peers: Peer) -> None:
        self.forgotten: list[str] = []
        self.known = {name.replace("__", ":"): peer for name, peer in peers.items()}

    def __call__(self, name: str) -> Peer:
        return self.known[name]

    def forget(self, name: str) -> None:
        self.forgotten.append(name)


def spec(state_dir: Path, symbols: tuple[str, ...] = ("BTC/ZAR", "ETH/ZAR"), **overrides: Any) -> DeskSpec:
    """A desk whose database cannot be reached by accident."""
    config = load_config(env={}, overrides=overrides)
    return DeskSpec(config, "postgresql://nobody@127.0.0.1:1/none", "run-1", symbols, symbols[0], None, str(state_dir))
