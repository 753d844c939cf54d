"""The cluster file of the repository, and the checks that `helios cluster check` runs on any."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.topology import read_topology
from helios.cli.app import main
from helios.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "ray_cluster.yaml").read_text()
DOCUMENT: dict[str, Any] = yaml.safe_load(TEXT)
Change = Callable[[dict[str, Any]], object]


def changed(change: Change) -> tuple[str, ...]:
    document = yaml.safe_load(TEXT)
    change(document)
    return read_topology(yaml.safe_dump(document)).problems


def test_rays_own_schema_accepts_the_file() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    spec = find_spec("ray")  # finds without importing
    assert spec is not None
    assert spec.submodule_search_locations
    schema = json.loads((Path(spec.submodule_search_locations[0]) / "autoscaler/ray-schema.json").read_text())
    jsonschema.validate(DOCUMENT, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(DOCUMENT | {"no_such_key": 1}, schema)


def test_the_file_has_no_problem_and_names_its_machines() -> None:
    topology = read_topology(TEXT)
    assert topology.problems == ()
    assert topology.name == "helios"
    assert topology.head_ip == "10.0.0.10"
    assert topology.worker_ips == ("10.0.0.11", "10.0.0.12")


def test_no_docker_and_everything_mounted_exists() -> None:
    assert "docker" not in DOCUMENT
    assert "RAY_UP_enable_autoscaler_v2=0" in TEXT
    local = [path for path in DOCUMENT["file_mounts"].values() if not path.startswith("~")]
    assert [path for path in local if not (ROOT / path).exists()] == []


def test_the_mounts_bring_every_package_that_the_project_installs() -> None:
    packages = {p.parent.name for p in ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages <= set(DOCUMENT["file_mounts"].values())


def test_health_checks_are_tuned_where_the_head_starts() -> None:
    head = next(c for c in DOCUMENT["head_start_ray_commands"] if "ray start" in c)
    for name in ("initial_delay_ms", "period_ms", "timeout_ms", "failure_threshold"):
        assert head.index(f"RAY_health_check_{name}=") < head.index("ray start")


def test_the_setup_installs_the_lock_into_a_venv_before_the_project() -> None:
    setup = DOCUMENT["setup_commands"]
    places = [next(i for i, c in enumerate(setup) if part in c) for part in ("-m venv", "requirements.lock", "--no-deps", "bashrc")]
    assert places == sorted(places)


@pytest.mark.parametrize("key", ["setup_commands", "head_start_ray_commands", "worker_start_ray_commands"])
def test_every_command_is_valid_shell(key: str) -> None:
    for command in DOCUMENT[key]:
        assert subprocess.run(["bash", "-n", "-c", command], check=False).returncode == 0, command


@pytest.mark.parametrize(("change", "words"), [
    (lambda d: d["file_mounts"].pop("~/.ray/auth_token"), "InvalidAuthToken"),
    (lambda d: d.pop("file_mounts"), "InvalidAuthToken"),
    (lambda d: d["provider"].update(head_ip="127.0.0.1"), "127.0.0.1: Ray rewrites"),
    (lambda d: d["provider"].update(worker_ips=["localhost"]), "localhost: Ray rewrites"),
    (lambda d: d["provider"].update(worker_ips=["10.0.0.10"]), "10.0.0.10 is named twice"),
    (lambda d: d["provider"].update(worker_ips=["worker-1"]), "worker-1 is not an IP address"),
    (lambda d: d["provider"].pop("worker_ips"), "not a list"),
    (lambda d: d["provider"].pop("head_ip"), "head_ip is missing"),
    (lambda d: d["provider"].update(type="aws"), "provider.type is 'aws'"),
    (lambda d: d["provider"].update(head_ip="10.0.0.99"), "starts on 10.0.0.10, but provider.head_ip is 10.0.0.99"),
    (lambda d: d.update(worker_start_ray_commands=["ray start --address=$RAY_HEAD_IP:6379"]), "without RAY_AUTH_MODE=token"),
    (lambda d: d.update(worker_start_ray_commands=["RAY_AUTH_MODE=token ray start --address=10.9.9.9:1"]), "join 10.9.9.9"),
    (lambda d: d.update(worker_start_ray_commands=["RAY_AUTH_MODE=token ray start --address localhost:1"]), "--address localhost"),
    (lambda d: d.update(head_start_ray_commands=["RAY_AUTH_MODE=token ray start --head"]), "no worker is ever started"),
    (lambda d: d.update(head_start_ray_commands=["ray stop"]), "no `ray start --head`"),
])  # fmt: skip
def test_each_known_mistake_is_named(change: Change, words: str) -> None:
    assert any(words in problem for problem in changed(change))


def test_other_loopback_addresses_are_left_alone_as_ray_does() -> None:
    def one_machine(document: dict[str, Any]) -> None:
        document["provider"].update(head_ip="127.0.0.2", worker_ips=["127.0.0.3"])
        document["head_start_ray_commands"] = [c.replace("10.0.0.10", "127.0.0.2") for c in document["head_start_ray_commands"]]

    assert changed(one_machine) == ()


@pytest.mark.parametrize("text", ["a: [", "- 1", ""])
def test_what_is_no_cluster_file_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        read_topology(text)


def test_the_command_ends_with_1_if_there_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import cluster.commands  # noqa: F401  registers the command

    bad = tmp_path / "bad.yaml"
    bad.write_text(TEXT.replace("10.0.0.10", "127.0.0.1"))
    for path, code in ((ROOT / "ray_cluster.yaml", 0), (bad, 1), (tmp_path / "absent.yaml", 1)):
        monkeypatch.setattr("sys.argv", ["helios", "cluster", "check", str(path), "--json"])
        assert main() == code
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first["head_ip"] == "10.0.0.10"
    assert first["problems"] == []
