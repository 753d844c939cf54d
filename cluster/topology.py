"""What a file for `ray up` describes, and what would keep it from working. Starts nothing and imports no Ray.

Ray accepts many files that then never come up: `ray up` ends with code 0 while a worker is refused again and again.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml  # type: ignore[import-untyped, unused-ignore]

from helios.errors import ConfigError

TOKEN_PATH = "~/.ray/auth_token"
_ADDRESS_OPTION = re.compile(r"--(?P<option>node-ip-address|address)[= ](?P<host>[^\s:;]+)")
_REWRITTEN = {"127.0.0.1", "localhost", "::1", "0.0.0.0"}  # loopback, which Ray turns into the outward address


@dataclass(frozen=True, slots=True)
class Topology:
    """The machines of a cluster file.

    Attributes
    ----------
    head_ip : str
        Empty if the file names none.
    worker_ips : tuple of str
    problems : tuple of str
        What would keep the cluster from coming up, in words for the person who starts it; empty if nothing was found.
    """

    name: str
    head_ip: str
    worker_ips: tuple[str, ...]
    problems: tuple[str, ...]


def read_topology(text: str) -> Topology:
    """Read a cluster file.

    Parameters
    ----------
    text : str
        YAML of `ray up`.

    Raises
    ------
    ConfigError
        If it is not YAML or not a mapping.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"the cluster file is not YAML: {error}") from None
    if not isinstance(document, dict):
        raise ConfigError("the cluster file is not a mapping of settings")
    provider = _mapping(document, "provider")
    head_ip, workers = str(provider.get("head_ip", "")), provider.get("worker_ips")
    worker_ips = tuple(str(ip) for ip in workers) if isinstance(workers, list) else ()
    problems = (
        *_provider_problems(provider),
        *_address_problems(head_ip, worker_ips),
        *_token_problems(document),
        *_start_problems(document, head_ip),
    )
    return Topology(str(document.get("cluster_name", "")), head_ip, worker_ips, problems)


def _provider_problems(provider: dict[str, Any]) -> Iterator[str]:
    if provider.get("type") != "local":
        yield f"provider.type is {provider.get('type')!r}; these checks are for 'local'"
    if not provider.get("head_ip"):
        yield "provider.head_ip is missing"
    if not isinstance(provider.get("worker_ips"), list):
        yield "provider.worker_ips is not a list (an empty one is a cluster of the head alone)"


def _address_problems(head_ip: str, worker_ips: tuple[str, ...]) -> Iterator[str]:
    for ip in dict.fromkeys(filter(None, (head_ip, *worker_ips))):
        if ip in _REWRITTEN:
            yield f"{ip}: Ray rewrites it to the machine's outward address; name an address that the other hosts reach"
        elif not _is_address(ip):
            yield f"{ip} is not an IP address"
    named = [head_ip, *worker_ips]
    for ip in sorted({ip for ip in named if named.count(ip) > 1}):
        yield f"{ip} is named twice"


def _token_problems(document: dict[str, Any]) -> Iterator[str]:
    if not any(_plain_home(target) == TOKEN_PATH for target in _mapping(document, "file_mounts")):
        yield f"file_mounts does not bring {TOKEN_PATH} to the hosts: workers are refused with InvalidAuthToken"
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        if not any("RAY_AUTH_MODE=token" in c for c in _starts(document, key)):
            yield f"{key}: `ray start` runs without RAY_AUTH_MODE=token and does not show the token"


def _start_problems(document: dict[str, Any], head_ip: str) -> Iterator[str]:
    heads, workers = (_starts(document, f"{role}_start_ray_commands") for role in ("head", "worker"))
    if not any("--head" in c for c in heads):
        yield "head_start_ray_commands has no `ray start --head`"
    elif not any("--autoscaling-config" in c for c in heads):
        yield "head_start_ray_commands: without --autoscaling-config no worker is ever started"
    for option, host in _hosts(heads + workers):
        if host in _REWRITTEN:
            yield f"--{option} {host}: Ray rewrites it to the machine's outward address"
    for option, host in _hosts(heads):
        if option == "node-ip-address" and host not in _REWRITTEN | {head_ip}:
            yield f"the head starts on {host}, but provider.head_ip is {head_ip}"
    for option, host in _hosts(workers):
        if option == "address" and host not in _REWRITTEN | {head_ip, "$RAY_HEAD_IP"}:
            yield f"workers join {host}, but provider.head_ip is {head_ip}"


def _starts(document: dict[str, Any], key: str) -> list[str]:
    commands = document.get(key)
    return [c for c in commands if isinstance(c, str) and "ray start" in c] if isinstance(commands, list) else []


def _hosts(commands: list[str]) -> list[tuple[str, str]]:
    return [(m["option"], m["host"]) for c in commands for m in _ADDRESS_OPTION.finditer(c)]


def _mapping(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _plain_home(path: str) -> str:
    return path.replace("$HOME/", "~/")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
