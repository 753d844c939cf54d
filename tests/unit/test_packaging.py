"""What is shipped: the command, the locks, the packaged model, the licence; and what must never be."""

from __future__ import annotations

import fnmatch
import hashlib
import importlib
import json
import re
import subprocess
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from helios.config import ModelConfig
from helios.learn.cards import PACKAGED, model_card

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MACHINE_PATHS = tuple("/" + name + "/" for name in ("work", "root"))  # put together here, or this file would be an offender
STARTER = PACKAGED / "starter"


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def required(specifications: list[str]) -> list[str]:
    matches = [re.match(r"[A-Za-z0-9._-]+", s) for s in specifications]
    return [canonical(m.group()) for m in matches if m]


def pins(file: str) -> dict[str, str]:
    lines = [line.split("#")[0].strip() for line in (ROOT / file).read_text().splitlines()]
    return {canonical(name): version for name, _, version in (line.partition("==") for line in lines if line)}


def tracked() -> list[Path]:
    try:
        found = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in found.split("\0") if name and (ROOT / name).is_file()]


def test_the_console_script_names_something_callable() -> None:
    assert PROJECT["scripts"], "no console script"
    for target in PROJECT["scripts"].values():
        module, _, name = target.partition(":")
        assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("file", ["requirements.lock", "requirements-test.lock"])
def test_every_line_of_a_lock_is_one_exact_version(file: str) -> None:
    for name, version in pins(file).items():
        assert re.fullmatch(r"[0-9][0-9a-zA-Z.!+]*", version), f"{name}: {version!r}"


def test_the_lock_pins_every_runtime_dependency() -> None:
    names = required(PROJECT["dependencies"])
    assert len(names) == len(PROJECT["dependencies"])
    assert set(names) - set(pins("requirements.lock")) == set()


def test_the_test_lock_pins_the_test_tools_and_agrees_with_the_runtime_lock() -> None:
    runtime, test = pins("requirements.lock"), pins("requirements-test.lock")
    assert set(required(PROJECT["optional-dependencies"]["test"])) - set(test) == set()
    assert {name: (version, test.get(name)) for name, version in runtime.items() if test.get(name) != version} == {}


def test_the_locks_hold_versions_within_the_declared_ranges() -> None:
    requirements = pytest.importorskip("packaging.requirements")
    locked = pins("requirements-test.lock")
    for text in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]:
        requirement = requirements.Requirement(text)
        assert requirement.specifier.contains(locked[canonical(requirement.name)]), text


def test_torch_and_ray_are_the_versions_the_project_is_built_on() -> None:
    locked = pins("requirements.lock")
    assert locked["torch"].startswith("2.13.")
    assert locked["ray"].startswith("2.60.")


def test_every_package_of_the_repository_is_installed_with_it() -> None:
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {p.parent.name for p in ROOT.glob("*/__init__.py")} - {"tests"}
    missing = [p for p in packages if not any(fnmatch.fnmatch(p, pattern) for pattern in setup["packages"]["find"]["include"])]
    assert missing == []
    assert all(find_spec(package) for package in packages)


def test_data_files_that_code_reads_are_packaged() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["helios"]
    packaged = {path for pattern in data for path in (ROOT / "helios").glob(pattern)}
    needed = {*STARTER.iterdir(), *(ROOT / "helios/store/migrations").glob("*.sql"), ROOT / "helios/py.typed"}
    assert needed - packaged == set()


def test_the_starter_model_is_small_and_its_card_is_about_its_weights() -> None:
    assert sum(path.stat().st_size for path in STARTER.rglob("*") if path.is_file()) < 2_000_000
    card = json.loads((STARTER / "card.json").read_text())
    assert model_card(ModelConfig(version="starter"))["version"] == card["version"] == "starter"
    assert card["parameter_count"] > 0
    assert card["weights_sha256"] == hashlib.sha256((STARTER / "weights.pt").read_bytes()).hexdigest()
    assert card["scaler_sha256"] == hashlib.sha256((STARTER / "scaler.json").read_bytes()).hexdigest()


def test_the_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "Apache-2.0"
    assert text.split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert "END OF TERMS AND CONDITIONS" in text


def test_no_tracked_file_names_a_path_of_some_machine() -> None:
    contents = {path.relative_to(ROOT): path.read_bytes() for path in tracked()}
    assert len(contents) > 50
    offenders = [str(name) for name, content in contents.items() if any(p.encode() in content for p in MACHINE_PATHS)]
    assert offenders == []


def test_no_recorded_market_data_is_tracked() -> None:
    names = [str(path.relative_to(ROOT)) for path in tracked()]
    assert [n for n in names if fnmatch.fnmatch(n, "*.parquet") or fnmatch.fnmatch(n, "*.raw.gz")] == []
