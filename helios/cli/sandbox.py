"""helios sandbox: the exchange alone."""

from __future__ import annotations

import sys

import typer

from helios.cli.app import app


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
def sandbox(context: typer.Context) -> None:
    """Run the exchange alone, for any client that speaks VALR's protocol (helios sandbox --help)."""
    from helios.venues.sandbox.process import main

    sys.exit(main(context.args))
