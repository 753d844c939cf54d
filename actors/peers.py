"""How actors find each other. Kept apart from wiring.py: whoever unpickles a Peers must not import every actor's libraries."""

from __future__ import annotations

from typing import Any, Protocol

import ray

from actors.base import NAMESPACE


class PeerLookup(Protocol):
    """Finds actors by name."""

    def __call__(self, name: str) -> Any:
        """Return the handle of the actor of this name."""

    def forget(self, name: str) -> None:
        """Look the name up anew at its next use: the actor that had it is gone for good."""


class Peers:
    """Finds named actors; a handle stays good across restarts of its actor."""

    def __init__(self) -> None:
        self._handles: dict[str, Any] = {}

    def __call__(self, name: str) -> Any:
        if name not in self._handles:
            self._handles[name] = ray.get_actor(name, namespace=NAMESPACE)
        return self._handles[name]

    def forget(self, name: str) -> None:
        """Look the name up anew at its next use: the actor that had it is gone for good."""
        self._handles.pop(name, None)

    def __reduce__(self) -> tuple[type[Peers], tuple[()]]:
        return (Peers, ())
