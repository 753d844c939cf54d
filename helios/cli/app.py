"""The commands that need no Ray: control over the API, questions to the database, checks, files."""

from __future__ import annotations

import importlib
import sys

import typer

from helios import __version__
from helios.errors import HeliosError

COMMANDS = (
    "allocate",
    "bench",
    "books",
    "control",
    "doctor",
    "features",
    "history",
    "leakage",
    "movements",
    "queries",
    "ramp",
    "record",
    "regimes",
    "sandbox",
    "size",
    "symbols",
    "volatility",
)

app = typer.Typer(
    name="helios",
    help="Autonomous multi-asset trading on Ray. Paper by default; nothing here is financial advice.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True)) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main() -> int:
    """Run the command line; every known error becomes one clear line and exit code 1."""
    for name in COMMANDS:
        importlib.import_module(f"helios.cli.{name}")  # each adds its commands to `app`
    try:
        code = app(standalone_mode=False)
    except HeliosError as error:
        print(f"helios: {error}", file=sys.stderr)
        return 1
    except typer.TyperException as error:  # not click's: typer carries its own copy of click
        print(f"helios: {error.format_message()}", file=sys.stderr)
        return 2
    except (typer.Abort, KeyboardInterrupt):
        print("helios: interrupted", file=sys.stderr)
        return 130
    return code if isinstance(code, int) else 0  # `typer.Exit` comes back as its code
