from __future__ import annotations

import pytest
import torch

from helios.errors import ConfigError
from helios.learn.network import PRESETS, TimeframeAttentionNet, example_shape, parameter_count, preset


@pytest.fixture(scope="module")
def net() -> TimeframeAttentionNet:
    torch.manual_seed(0)
    return TimeframeAttentionNet(preset("starter")).eval()


@pytest.mark.parametrize(("name", "expected"), [("starter", 322_371), ("compact", 3_338_499), ("full", 41_059_075)])
def test_parameter_counts(name: str, expected: int) -> None:
    with torch.device("meta"):  # shapes only: the large one would take 160 MB
        assert parameter_count(TimeframeAttentionNet(PRESETS[name])) == expected


def test_unknown_preset_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="huge"):
        preset("huge")


def test_output_is_logits_and_attention_that_sums_to_one(net: TimeframeAttentionNet) -> None:
    logits, attention = net(torch.randn(example_shape(5)))
    assert logits.shape == (5, 3)
    assert not torch.allclose(logits.exp().sum(1), torch.ones(5))
    torch.testing.assert_close(attention.sum(1), torch.ones(5))


def test_attention_varies_with_the_input(net: TimeframeAttentionNet) -> None:
    _, attention = net(3 * torch.randn(example_shape(16)))
    assert attention.std(0).min() > 1e-3


def test_the_order_of_the_steps_matters(net: TimeframeAttentionNet) -> None:
    windows = torch.randn(example_shape(2))
    assert not torch.allclose(net(windows)[0], net(windows.flip(2))[0], atol=1e-3)


def test_each_timeframe_and_the_oldest_step_reach_the_logits(net: TimeframeAttentionNet) -> None:
    windows = torch.randn(example_shape(1)).requires_grad_()
    net(windows)[0].sum().backward()
    assert windows.grad is not None
    assert (windows.grad[0].abs().sum(2) > 0).all()


def test_a_fresh_network_does_not_forget_the_oldest_steps() -> None:
    torch.manual_seed(2)
    windows = torch.randn(example_shape(8)).requires_grad_()
    TimeframeAttentionNet(preset("starter")).eval()(windows)[0][:, 0].sum().backward()
    assert windows.grad is not None
    by_step = windows.grad.abs().mean(dim=(0, 1, 3))
    assert by_step[0] > 0.01 * by_step[-1]  # with zero gate biases it is below 1e-10


def test_every_parameter_is_trained_by_the_loss() -> None:
    net = TimeframeAttentionNet(preset("starter"))
    loss = torch.nn.functional.cross_entropy(net(torch.randn(example_shape(8)))[0], torch.tensor([0, 1, 2, 0, 1, 2, 0, 1]))
    loss.backward()
    # a key bias shifts all attention scores of a query alike, so its gradient is zero by construction, not missing
    assert all(p.grad is not None for p in net.parameters())
