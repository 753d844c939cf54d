"""One thread for linear algebra where the answer must be the same in every process.

A BLAS sums in another order with another number of threads, and a fit then ends elsewhere in the eighth digit. Ray gives its
actors one thread, a plain process has them all: without this, actors and backtest would differ.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import cast

from threadpoolctl import ThreadpoolController


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def one_thread() -> AbstractContextManager[object]:
    """Return a context in which BLAS uses one thread; entering it takes microseconds after the first time."""
    return cast(AbstractContextManager[object], _controller().limit(limits=1, user_api="blas"))
