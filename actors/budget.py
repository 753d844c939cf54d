"""The request budget of an actor that asks the venue: shared by all processes of the desk where the venue limits anybody."""

from __future__ import annotations

from actors.base import DeskSpec
from helios.store.request_budget import CLUSTER_ADDRESS, PostgresBudget
from helios.venues.budget import RequestBudget
from helios.venues.factory import shared_limits

OTHERS = 2  # programs beside the symbol actors that ask the same venue: the command that starts the desk, and one tool


def request_budget(spec: DeskSpec) -> RequestBudget | None:
    """Return the budget that all actors of `spec` share, None for a venue that does not need one (the venue's own then)."""
    limits = shared_limits(spec.config.venue) if spec.replay_path is None else None
    if limits is None:
        return None
    n_actors = -(-len(spec.symbols) // spec.config.desk.symbols_per_actor)
    return PostgresBudget(spec.dsn, limits.name, CLUSTER_ADDRESS, limits.rates, n_processes=n_actors + OTHERS)
