"""`helios cluster`: help with the file for `ray up`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cluster.topology import Topology, read_topology
from helios.cli.app import app
from helios.errors import ConfigError

cluster_app = typer.Typer(name="cluster", help="Several machines: checks of the file for ray up.", no_args_is_help=True)
app.add_typer(cluster_app)


@cluster_app.callback()
def _root() -> None:
    # A group although it has one command: `helios cluster check`, not `helios cluster`.
    pass


@cluster_app.command()
def check(
    file: Annotated[Path, typer.Argument(help="Cluster file, e.g. ray_cluster.yaml.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say which machines a cluster file names and what would keep it from working; exit code 1 if anything would."""
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {getattr(error, 'strerror', None) or 'not text'}") from None
    topology = read_topology(text)
    print(json.dumps(asdict(topology)) if as_json else _readable(topology))
    if topology.problems:
        raise ConfigError(f"{file}: {len(topology.problems)} problem{'s' if len(topology.problems) > 1 else ''}")


def _readable(topology: Topology) -> str:
    lines = [("cluster", topology.name), ("head", topology.head_ip), ("workers", ", ".join(topology.worker_ips) or "none")]
    return "\n".join(f"{name:>10}  {value}" for name, value in lines + [("problem", p) for p in topology.problems])
