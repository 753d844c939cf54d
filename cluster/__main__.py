"""`python -m cluster` is the helios command."""

from cluster.main import run

run()
