"""The direction of dependencies, read from the syntax trees."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PURE = ("domain", "market", "features", "risk", "portfolio", "execution", "pipeline", "backtest")
IO_MODULES = {"socket", "asyncpg", "websockets", "httpx", "requests", "time", "subprocess", "aiohttp", "random"}
OURS = {"actors", "serve", "training", "cluster"}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
    return names


def roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


def files(*folders: str) -> list[Path]:
    return sorted(p for folder in folders for p in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", files("helios"), ids=lambda p: str(p.relative_to(ROOT)))
def test_helios_never_imports_ray_or_the_layers_above(path: Path) -> None:
    assert not roots(path) & (OURS | {"ray"})


@pytest.mark.parametrize("path", files(*(f"helios/{p}" for p in PURE)), ids=lambda p: str(p.relative_to(ROOT)))
def test_pure_packages_do_no_io_and_read_no_clock(path: Path) -> None:
    assert not roots(path) & IO_MODULES


@pytest.mark.parametrize("path", files("helios"), ids=lambda p: str(p.relative_to(ROOT)))
def test_only_learn_imports_torch(path: Path) -> None:
    if "learn" not in path.relative_to(ROOT).parts:
        assert "torch" not in roots(path)


@pytest.mark.parametrize(("folder", "forbidden"), [
    ("actors", {"serve", "training", "cluster"}),
    ("serve", {"actors", "training", "cluster"}),
    ("training", {"actors", "serve", "cluster"}),
])  # fmt: skip
def test_layers_meet_only_through_messages(folder: str, forbidden: set[str]) -> None:
    offenders = {str(p.relative_to(ROOT)): roots(p) & forbidden for p in files(folder) if roots(p) & forbidden}
    assert offenders == {}


def test_ray_remote_is_called_only_in_the_wiring() -> None:
    offenders = [
        str(p.relative_to(ROOT))
        for p in files("actors", "serve", "training", "cluster")
        if p.name != "wiring.py" and "ray.remote(" in p.read_text() + p.read_text().replace("@ray.remote", "ray.remote(")
    ]
    assert offenders == []
