"""The request budget of an actor that asks the venue: shared by all processes of the desk where the venue limits anybody."""

from __future__ import annotations

from actors.base import DeskSpec
from helios.store.request_budget import PostgresBudget
from helios.venues.budget import RequestBudget
from helios.venues.valr.limits import valr_rates

ADDRESS = "cluster"
"""All nodes are taken to reach the venue from one address, as behind one router: at worst that sends too little."""
OTHERS = 2  # programs beside the symbol actors that ask the same venue: the command that starts the desk, and one tool


def request_budget(spec: DeskSpec) -> RequestBudget | None:
    """Return the budget that all actors of `spec` share, None for a venue that does not need one (the venue's own then)."""
    venue = spec.config.venue
    if venue.name != "valr" or spec.replay_path is not None:
        return None
    n_actors = -(-len(spec.symbols) // spec.config.desk.symbols_per_actor)
    rates = valr_rates(venue.rest_requests_per_s)
    return PostgresBudget(spec.dsn, venue.name, ADDRESS, rates, n_processes=n_actors + OTHERS)
