"""Ray's errors become ours, without a cluster: only the awaitable is faked."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from ray.exceptions import ActorUnavailableError, RayActorError, RayTaskError
from ray.serve.exceptions import RayServeException

from helios.errors import ModelUnavailableError, RejectedError, StoreUnavailableError, TransportError
from serve.backend import RayBackend, remote


async def fails(error: Exception) -> None:
    raise error


async def test_the_supervisors_own_refusal_comes_through() -> None:
    error = RayTaskError("resume", "traceback", RejectedError("must be cleared first"))
    with pytest.raises(RejectedError, match="must be cleared first"):
        await remote(fails(error), 1.0, "the supervisor")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RayTaskError("snapshot", "secret traceback", KeyError("x")), "the supervisor failed: KeyError"),
        (RayActorError(), "down or restarting"),
        (ActorUnavailableError("away", None), "unavailable|down"),
        (RayServeException("no replica"), "unavailable"),
    ],
)
async def test_everything_else_is_one_line_about_who(error: Exception, words: str) -> None:
    with pytest.raises(TransportError, match=words) as caught:
        await remote(fails(error), 1.0, "the supervisor")
    assert "traceback" not in str(caught.value)


async def test_silence_ends_at_the_deadline() -> None:
    with pytest.raises(TransportError, match=r"did not answer within 0\.01 s"):
        await remote(asyncio.sleep(5), 0.01, "the supervisor")


async def test_a_dead_supervisor_is_looked_up_again() -> None:
    class Handle:
        class snapshot:  # noqa: N801
            @staticmethod
            async def remote() -> Any:
                raise RayActorError

    backend = RayBackend("helios", "postgresql://nobody@/none")
    backend._supervisor = Handle()
    with pytest.raises(TransportError):
        await backend.snapshot()
    assert backend._supervisor is None


async def test_a_missing_predictor_means_no_model() -> None:
    class Handle:
        class predict_batch:  # noqa: N801
            @staticmethod
            async def remote(values: Any) -> Any:
                raise RayServeException("no such application")

    backend = RayBackend("helios", "postgresql://nobody@/none")
    backend._predictor = Handle()
    with pytest.raises(ModelUnavailableError):
        await backend.predict(np.zeros((1, 3, 60, 30), np.float32))


async def test_a_predictor_that_was_never_deployed_means_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str, app_name: str) -> Any:
        raise KeyError(f"{name} of {app_name} does not exist")

    monkeypatch.setattr("ray.serve.get_deployment_handle", unknown)
    with pytest.raises(ModelUnavailableError, match="not running"):
        await RayBackend("helios", "postgresql://nobody@/none").predict(np.zeros((1, 3, 60, 30), np.float32))


async def test_an_absent_database_is_one_clear_error() -> None:
    backend = RayBackend("helios", "postgresql://nobody@/none?host=/nonexistent")
    with pytest.raises(StoreUnavailableError):
        await backend.decisions(5, None, None)
    await backend.aclose()
