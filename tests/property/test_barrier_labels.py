from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from helios.domain.enums import Action
from helios.learn.labels import STOP, TARGET, triple_barrier


@st.composite
def markets(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, float, float, float]:
    n = draw(st.integers(12, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    close = 100 * np.exp(np.cumsum(rng.normal(0, draw(st.floats(0.001, 0.03)), n)))
    reach = rng.uniform(0, 0.02, (2, n))
    horizon = draw(st.integers(1, 10))
    return (
        close,
        close * (1 + reach[0]),
        close * (1 - reach[1]),
        horizon,
        *draw(st.tuples(st.floats(0.5, 3), st.floats(1, 3), st.floats(0, 0.01))),
    )


@settings(max_examples=60, deadline=None)
@given(markets())
def test_labels_are_what_the_exit_returns_say(market) -> None:
    close, high, low, horizon, stop, reward, cost = market
    got = triple_barrier(close, high, low, np.full(len(close), 0.02), horizon, stop, reward, cost)
    assert (got.labels[-horizon:] == -1).all()
    long, short = got.exit_returns[:-horizon].T
    labels = got.labels[:-horizon]
    np.testing.assert_array_equal(labels == Action.BUY, (long > 0) & (long > short))
    np.testing.assert_array_equal(labels == Action.SELL, (short > 0) & (short > long))


@settings(max_examples=60, deadline=None)
@given(markets())
def test_losses_are_bounded_by_the_stop_and_gains_by_the_target(market) -> None:
    close, high, low, horizon, stop, reward, cost = market
    got = triple_barrier(close, high, low, np.full(len(close), 0.02), horizon, stop, reward, cost)
    returns, kinds = got.exit_returns[:-horizon], got.exit_kinds[:-horizon]
    risk = 0.02 * stop
    assert returns.min() >= -risk - cost - 1e-12
    assert returns.max() <= reward * risk - cost + 1e-12
    np.testing.assert_allclose(returns[kinds == STOP], -risk - cost)
    np.testing.assert_allclose(returns[kinds == TARGET], reward * risk - cost)


@settings(max_examples=40, deadline=None)
@given(markets())
def test_rescaled_prices_give_the_same_labels(market) -> None:
    close, high, low, *rest = market
    volatility = np.full(len(close), 0.02)
    one = triple_barrier(close, high, low, volatility, *rest)
    two = triple_barrier(close * 4, high * 4, low * 4, volatility, *rest)  # a power of two changes no rounding
    np.testing.assert_array_equal(one.labels, two.labels)
