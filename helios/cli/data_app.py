"""`helios data`: commands on market data."""

from __future__ import annotations

import typer

from helios.cli.app import app
from helios.cli.record import register

data_app = typer.Typer(help="Market data: what is recorded and kept.", no_args_is_help=True)
app.add_typer(data_app, name="data")
register(data_app)
