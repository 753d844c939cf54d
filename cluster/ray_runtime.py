"""Ray and Serve for one desk: start, hand over, stop. Imported late, because it takes seconds."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Ray runs its workers at niceness 15: beside any program that wants the processor, stops would be watched by whoever comes last.
os.environ.setdefault("RAY_worker_niceness", "0")
# Serve kills a proxy that is not ready within five seconds, three times over; a busy or slow machine takes longer to import it.
os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")

import httpx
import ray
from ray import serve

from actors.base import NAMESPACE, DeskSpec
from actors.wiring import Desk
from actors.wiring import start_desk as _start_desk
from actors.wiring import stop_desk as _stop_desk
from helios.config import HeliosConfig, ModelConfig
from helios.domain.market import Instrument
from helios.errors import HeliosError, ModelUnavailableError, RetryableError
from serve.gateway import GatewaySpec, gateway_app
from serve.predictor import predictor_app

CALL_TIMEOUT_S = 10.0
SERVE_ATTEMPTS = 3
API_TIMEOUT_S = 60.0


@contextmanager
def ray_session(address: str | None) -> Iterator[str]:
    """Start a local Ray, or join the cluster at `address`; yield the address of Ray's dashboard."""
    options: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        options |= {"include_dashboard": True, "object_store_memory": 200_000_000}
    else:
        options |= {"address": address}
    try:
        context = ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise RetryableError(f"Ray did not start: {str(error).splitlines()[0]}") from None
    url = context.address_info.get("webui_url") or ""
    try:
        yield f"http://{url}" if url else ""
    finally:
        ray.shutdown()


def serve_predictor(config: HeliosConfig, stack: ExitStack, is_own_cluster: bool) -> None:
    """Run the predictor and wait until its model is loaded.

    Raises
    ------
    ModelUnavailableError
        If the model cannot be loaded.
    """
    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # the driver's stderr is the user's progress display
    http = {"host": config.api.host, "port": config.api.port}
    _start_serve(http)
    if not is_own_cluster:  # a Ray of our own ends with everything in it, seconds faster
        stack.callback(_stop_serve)
    try:
        serve.run(predictor_app(_with_gpu(config.model)), name="predictor", route_prefix=None)
    except RuntimeError as error:
        raise ModelUnavailableError(f"the predictor did not start: {str(error).splitlines()[-1]}") from None


def _start_serve(http: dict[str, Any]) -> None:
    """Start Serve's controller and proxy; a proxy that died on its way is replaced by the controller, which is then found running."""
    for attempt in range(1, SERVE_ATTEMPTS + 1):
        try:
            serve.start(proxy_location="HeadOnly", http_options=http)
        except (ray.exceptions.RayError, TimeoutError) as error:
            if attempt == SERVE_ATTEMPTS:
                raise RetryableError(f"Ray Serve did not start: {str(error).splitlines()[0]}") from None
        else:
            return


def _with_gpu(model: ModelConfig) -> ModelConfig:
    if model.num_gpus >= 0:
        return model
    return model.model_copy(update={"num_gpus": 1.0 if ray.cluster_resources().get("GPU", 0) >= 1 else 0.0})


def serve_gateway(spec: DeskSpec, token: str, say: Callable[[str], None]) -> str:
    """Run the HTTP API and the dashboard; return their address."""
    say("starting the API")
    gateway = GatewaySpec(token=token, dsn=spec.dsn, push_interval_ms=spec.config.api.push_interval_ms, namespace=NAMESPACE)
    try:
        serve.run(gateway_app(gateway), name="gateway", route_prefix="/")
    except RuntimeError as error:
        raise RetryableError(f"the API did not start: {str(error).splitlines()[-1]}") from None
    url = f"http://{spec.config.api.host}:{spec.config.api.port}"
    _await_answer(url)
    return url


def _await_answer(url: str) -> None:
    """Return once the API answers: until then the address that is shown next would be a page that cannot be reached."""
    deadline = time.monotonic() + API_TIMEOUT_S
    while True:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health", timeout=5.0, trust_env=False).status_code == 200:
                return
        if time.monotonic() > deadline:
            raise RetryableError(f"the API at {url} does not answer after {API_TIMEOUT_S:g} s")
        time.sleep(0.1)


def start_desk(spec: DeskSpec, instruments: Mapping[str, Instrument], about: Mapping[str, Any]) -> Desk:
    """Create the actors.

    Raises
    ------
    RetryableError
        If one of them does not start.
    """
    try:
        return _start_desk(spec, instruments, about)
    except ray.exceptions.RayTaskError as error:
        raise RetryableError(f"an actor did not start: {error.cause}") from None
    except ray.exceptions.RayError as error:
        raise RetryableError(f"an actor did not start: {type(error).__name__}") from None


def stop_desk(desk: Desk) -> None:
    """Let actors flush and close."""
    with suppress(ray.exceptions.RayError):
        _stop_desk(desk)


def _stop_serve() -> None:
    with suppress(ray.exceptions.RayError, RuntimeError):
        serve.delete("gateway")
        serve.delete("predictor")


class Control:
    """What the starting process says to the Supervisor and the conductor."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def begin(self) -> str:
        return str(self._ask(self._desk["supervisor"].begin.remote()))

    def snapshot(self) -> dict[str, Any]:
        return dict(self._ask(self._desk["supervisor"].snapshot.remote()))

    def last_snapshot(self) -> dict[str, Any]:
        """Return the snapshot; a Supervisor that is just being restarted is waited for, a little."""
        deadline = time.monotonic() + CALL_TIMEOUT_S
        while True:
            try:
                return self.snapshot()
            except RetryableError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def finish(self) -> None:
        with suppress(HeliosError):
            self._ask(self._desk["supervisor"].finish.remote())

    def flush(self) -> None:
        """Write what waits and let the Supervisor see the last figures."""
        with suppress(HeliosError):
            self._ask(self._desk["recorder"].flush.remote())
        with suppress(HeliosError):
            self._ask(self._desk["supervisor"].refresh.remote())

    def replay(self, start_ns: int, end_ns: int, speed: float | None) -> ray.ObjectRef:
        return self._desk["signal"].replay.remote(start_ns, end_ns, speed)

    def is_done(self, reference: ray.ObjectRef) -> bool:
        return bool(ray.wait([reference], timeout=0)[0])

    def end_replay(self, reference: ray.ObjectRef) -> None:
        """End the replay after the bar under way; its own error, if it had one, is raised here."""
        self._desk["signal"].stop_replay.remote()
        self._ask(reference, 30.0)

    def _ask(self, reference: ray.ObjectRef, timeout_s: float = CALL_TIMEOUT_S) -> Any:
        try:
            return ray.get(reference, timeout=timeout_s)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, HeliosError):
                raise error.cause from None
            raise
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError) as error:
            raise RetryableError(f"a component did not answer: {type(error).__name__}") from None
