"""Where plain classes become Ray actors, and who knows whom. The only caller of ray.remote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from actors.base import NAMESPACE, DeskSpec
from actors.execution import ExecutionActor
from actors.peers import Peers
from actors.portfolio import PortfolioActor
from actors.recorder import RecorderActor
from actors.review import ReviewActor
from actors.risk import RiskActor
from actors.signal import SignalActor
from actors.supervisor import Supervisor
from actors.symbol import SymbolActor
from helios.domain.market import Instrument
from helios.risk.fitting import fit


@dataclass(frozen=True, slots=True)
class Desk:
    """Handles of a running desk; dropping them ends its actors."""

    spec: DeskSpec
    handles: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.handles[name]


def start_desk(spec: DeskSpec, instruments: Mapping[str, Instrument], about: Mapping[str, Any]) -> Desk:
    """Create every actor of the desk and wait until each has loaded its state.

    Execution and recorder come first (the others ask them at start), then the tiers, then the symbols, then the Supervisor.
    """
    peers = Peers()
    owners = symbol_groups(spec)
    handles: dict[str, Any] = {}
    handles["recorder"] = as_actor(RecorderActor, "recorder", 64).remote(spec)
    # No method of the execution actor is retried by Ray: an order must never be sent by a rerun.
    handles["execution"] = as_actor(ExecutionActor, "execution", 256).remote(spec, instruments)
    handles["risk"] = as_actor(RiskActor, "risk", 4).remote(spec, instruments, as_task(fit))
    handles["review"] = as_actor(ReviewActor, "review", 16).remote(spec)
    handles["portfolio"] = as_actor(PortfolioActor, "portfolio", 4).remote(spec, instruments)
    handles["signal"] = as_actor(SignalActor, "signal", 256).remote(spec, owners, peers)
    for symbols, name in owners:
        owned = [instruments[s] for s in symbols]
        handles[name] = as_actor(SymbolActor, name, 64).remote(spec, owned, peers)
    handles["supervisor"] = as_actor(Supervisor, "supervisor", 64).remote(spec, sorted(handles), instruments, peers, about)
    ray.get([handles[n].status.remote() for n in ("recorder", "execution")], timeout=120)
    ray.get([h.status.remote() for h in handles.values()], timeout=120)
    return Desk(spec, handles)


def start_owner(desk: Desk, name: str, instruments: Sequence[Instrument]) -> None:
    """Create the owner of symbols that came later; it warms up by itself."""
    desk.handles[name] = as_actor(SymbolActor, name, 64).remote(desk.spec, list(instruments), Peers())


def symbol_groups(spec: DeskSpec) -> tuple[tuple[tuple[str, ...], str], ...]:
    """Return (symbols, actor name) per symbol actor."""
    size = spec.config.desk.symbols_per_actor
    groups = [spec.symbols[i : i + size] for i in range(0, len(spec.symbols), size)]
    return tuple((tuple(g), "symbol:" + ",".join(g)) for g in groups)


def stop_desk(desk: Desk, names: Sequence[str] | None = None, timeout_s: float = 4.0) -> None:
    """Let actors flush and close, all at once but the recorder, which they still tell; whoever does not answer in time is ended."""
    chosen = names or list(desk.handles)
    for stage in ([n for n in chosen if n != "recorder"], [n for n in chosen if n == "recorder"]):
        if stage:
            ray.wait([desk.handles[n].stop.remote() for n in stage], num_returns=len(stage), timeout=timeout_s / 2)


def as_actor(cls: type[Any], name: str, max_concurrency: int) -> Any:
    """Return `cls` as a named actor that Ray restarts for ever and never asks twice."""
    return ray.remote(cls).options(
        name=name,
        namespace=NAMESPACE,
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=0,
        max_concurrency=max_concurrency,
    )


def as_task(function: Callable[..., Any]) -> Any:
    """Return a pure function as a task that takes a core of whichever machine has one free."""
    return ray.remote(num_cpus=1, max_retries=1)(function)
