"""The request budget of the desk that runs here, for commands that ask the same venue beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from helios.cli.rundir import RunDir
from helios.config import VenueConfig, database_url
from helios.store.embedded import EmbeddedPostgres
from helios.store.request_budget import CLUSTER_ADDRESS, PostgresBudget
from helios.venues.factory import shared_limits

SHARE = 8  # while the database is away a command sends at most this part of what the venue allows


@asynccontextmanager
async def desk_budget(config: VenueConfig, directory: RunDir) -> AsyncIterator[PostgresBudget | None]:
    """Yield the budget that a running desk shares among its actors; None where none runs, or its venue is another one.

    The venue counts requests by address: a download of a year must not bring a 429 upon the desk, which would then miss
    minutes that it has to fetch before it may trade.

    Parameters
    ----------
    config : VenueConfig
        Whom the command is going to ask.
    directory : RunDir
        Where the desk would run.
    """
    limits, dsn = shared_limits(config), _dsn(config, directory)
    if limits is None or dsn is None:
        yield None
        return
    budget = PostgresBudget(dsn, limits.name, CLUSTER_ADDRESS, limits.rates, n_processes=SHARE)
    try:
        yield budget
    finally:
        await budget.aclose()


def _dsn(config: VenueConfig, directory: RunDir) -> str | None:
    info = directory.read()
    if info is None or info.venue != config.name or not directory.is_locked:
        return None
    embedded = EmbeddedPostgres(directory.path / "postgres")
    dsn = database_url() if info.database == "url" else embedded.dsn() if embedded.is_running else None
    return None if dsn is None else f"{dsn}{'&' if '?' in dsn else '?'}search_path={info.schema}"
