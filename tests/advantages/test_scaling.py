"""The size of advantages over a step."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor
from torch.testing import assert_close

from turnwise.advantages import (
    lambda_under_trust,
    mix_by_trust,
    scale_by_rms,
    scale_turns_by_rms,
    whiten_with_shift,
)
from turnwise.arrays import spread_to_tokens, turn_length
from turnwise.errors import ConfigError, EmptyStepError, ShapeError

SEEDS = st.integers(0, 2**31)


def noise(seed: int) -> tuple[Tensor, Tensor]:
    """Advantages with NaN where nothing was written; at least two written tokens."""
    random = torch.Generator().manual_seed(seed)
    written_BT = torch.rand(3, 8, generator=random) < 0.5
    written_BT[0, :2] = True
    a_BT = torch.randn(3, 8, dtype=torch.float64, generator=random)
    return torch.where(written_BT, a_BT, math.nan), written_BT


def test_scale_by_rms_by_hand() -> None:
    # √((9 + 16)/2) = 3.5355; the third token was not written
    a_BT, written_BT = tensor([[3.0, 4.0, 50.0]]), tensor([[True, True, False]])
    assert_close(scale_by_rms(a_BT, written_BT), tensor([[3.0, 4.0, 0.0]]) / math.sqrt(12.5))
    assert_close(scale_by_rms(0.01 * a_BT, written_BT), tensor([[0.3, 0.4, 0.0]]))


def test_whitening_by_hand() -> None:
    # Mean 2, variance with N − 1: 2
    out_BT = whiten_with_shift(tensor([[1.0, 3.0, 9.0]]), tensor([[True, True, False]]))
    assert_close(out_BT, tensor([[-1.0, 1.0, 0.0]]) / math.sqrt(2))


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS, scale=st.floats(0.1, 100))
def test_scaling_forgets_the_unit_and_keeps_signs(seed: int, scale: float) -> None:
    a_BT, written_BT = noise(seed)
    out_BT = scale_by_rms(a_BT, written_BT, floor=0.0)
    assert_close(scale_by_rms(scale * a_BT, written_BT, floor=0.0), out_BT)
    assert_close(out_BT[written_BT].square().mean(), tensor(1.0, dtype=torch.float64))
    assert torch.equal(out_BT[written_BT].sign(), a_BT[written_BT].sign())
    assert not out_BT[~written_BT].any()


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS, shift=st.floats(-5, 5), left=st.integers(0, 3), right=st.integers(0, 3))
def test_whitening_forgets_shift_and_padding(
    seed: int, shift: float, left: int, right: int
) -> None:
    a_BT, written_BT = noise(seed)
    out_BT = whiten_with_shift(a_BT, written_BT)
    pad = torch.nn.functional.pad
    padded = pad(a_BT + shift, (left, right), value=7.0), pad(written_BT, (left, right))
    assert_close(whiten_with_shift(*padded)[:, left : left + 8], out_BT, atol=1e-6, rtol=1e-6)
    assert_close(
        scale_by_rms(pad(a_BT, (left, right)), padded[1])[:, left : left + 8],
        scale_by_rms(a_BT, written_BT),
    )


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS, floor=st.floats(0, 2))
def test_turns_and_tokens_scale_alike(seed: int, floor: float) -> None:
    random = torch.Generator().manual_seed(seed)
    turn_BT = torch.randint(-1, 3, (4, 9), generator=random).sort(dim=1).values
    length_BK = turn_length(turn_BT, 3)
    a_BK = torch.randn(4, 3, dtype=torch.float64, generator=random)
    a_BK = torch.where(length_BK > 0, a_BK, math.nan)
    by_turn_BT = spread_to_tokens(scale_turns_by_rms(a_BK, length_BK, floor=floor), turn_BT)
    by_token_BT = scale_by_rms(spread_to_tokens(a_BK, turn_BT), turn_BT >= 0, floor=floor)
    assert_close(by_turn_BT, by_token_BT)


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_nothing_scaled_is_nothing(floor: float) -> None:
    zero_BT, written_BT = torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)
    assert not scale_by_rms(zero_BT, written_BT, floor=floor).any()
    assert not scale_by_rms(zero_BT + 1, ~written_BT, floor=floor).any()
    assert not scale_turns_by_rms(zero_BT, written_BT.long(), floor=floor).any()
    assert not scale_turns_by_rms(zero_BT + 1, torch.zeros(2, 3).long(), floor=floor).any()


def test_whitening_one_token_is_refused() -> None:
    with pytest.raises(EmptyStepError, match="two or more written tokens.*got 1"):
        whiten_with_shift(torch.ones(1, 2), tensor([[True, False]]))


def test_wrong_settings_and_shapes_are_refused() -> None:
    a_BT = torch.ones(1, 2)
    with pytest.raises(ConfigError, match="floor"):
        scale_by_rms(a_BT, a_BT > 0, floor=-0.1)
    with pytest.raises(ConfigError, match="floor"):
        scale_turns_by_rms(a_BT, a_BT.long(), floor=-0.1)
    with pytest.raises(ShapeError):
        scale_by_rms(a_BT, torch.ones(1, 3) > 0)


def test_trust_moves_between_fallback_and_trusted() -> None:
    trusted_BT, fallback_BT = tensor([[1.0, -1.0]]), tensor([[0.0, 2.0]])
    assert_close(mix_by_trust(trusted_BT, fallback_BT, trust=0.25), tensor([[0.25, 1.25]]))
    assert_close(mix_by_trust(trusted_BT, fallback_BT, trust=0.0), fallback_BT)
    with pytest.raises(ConfigError, match="trust"):
        mix_by_trust(trusted_BT, fallback_BT, trust=1.5)


def test_lambda_falls_from_one_with_trust() -> None:
    assert lambda_under_trust(0.5, trust=0.0) == 1.0
    assert lambda_under_trust(0.5, trust=0.5) == 0.75
    assert lambda_under_trust(0.5, trust=1.0) == 0.5
    with pytest.raises(ConfigError, match="turn_lambda"):
        lambda_under_trust(-0.5, trust=1.0)
