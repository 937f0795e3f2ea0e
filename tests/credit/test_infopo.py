"""Information gain: golden numbers, theory on tables, and what a failed score does."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor
from torch.testing import assert_close

from turnwise.credit import (
    clamped_tokens,
    gain_full_kl,
    gain_k3,
    gain_marginal,
    gain_mean,
    next_turn_log_ratio,
    next_turn_sum,
    per_next_token,
)
from turnwise.errors import LogProbError, ShapeError

NAN = math.nan
Gain = Callable[[Tensor, Tensor, int], Tensor]
GAINS: list[Gain] = [next_turn_sum, gain_mean, gain_k3]

# One dialogue: turn 0, feedback, turn 1 of three tokens, feedback, turn 2, padding.
TURN_BT = tensor([[-1, 0, 0, -1, 1, 1, 1, -1, 2, -1]])
ELIGIBLE_BK = tensor([[True, False, False]])
NOT_BK = torch.zeros_like(ELIGIBLE_BK)


def scored(ratios: list[float]) -> tuple[Tensor, Tensor]:
    """Factual and counterfactual log-probabilities whose difference at turn 1 is `ratios`."""
    factual_BT = tensor([[NAN, -1, -2, NAN, -3, -2, -1, NAN, -5, NAN]], dtype=torch.float64)
    counterfactual_BT = torch.full_like(factual_BT, NAN)
    counterfactual_BT[0, 4:7] = factual_BT[0, 4:7] - tensor(ratios, dtype=torch.float64)
    return factual_BT, counterfactual_BT


def gains(gain: Gain, ratios: list[float]) -> Tensor:
    """gain_BK of the dialogue above."""
    ratio_BT = next_turn_log_ratio(*scored(ratios), TURN_BT, ELIGIBLE_BK, NOT_BK)
    return gain(ratio_BT, TURN_BT, 3)


@pytest.mark.parametrize(
    ("gain", "expected"),
    # k3: e^-.4 − 1 + .4 = .07032; e^.1 − 1 − .1 = .00517; e^-.6 − 1 + .6 = .14881; mean .0748
    [(gain_mean, 0.3), (next_turn_sum, 0.9), (gain_k3, 0.0748)],
)
def test_gains_by_hand(gain: Gain, expected: float) -> None:
    gain_BK = gains(gain, [0.4, -0.1, 0.6])
    assert gain_BK.shape == (1, 3)
    assert gain_BK[0].tolist() == pytest.approx([expected, 0.0, 0.0], abs=5e-5)


def test_full_kl_by_hand() -> None:
    # .7·log(7/4) + .2·log(2/4) + .1·log(1/2) = .39173 − .13863 − .06931 = .1838
    p_V, q_V = tensor([0.7, 0.2, 0.1]), tensor([0.4, 0.4, 0.2])
    term = float((p_V * (p_V / q_V).log()).sum())
    kl_BT = torch.full((1, 10), NAN)
    kl_BT[0, 4:7] = tensor([term, 0.0, 3 * term])
    gain_BK = gain_full_kl(kl_BT, TURN_BT, ELIGIBLE_BK, NOT_BK)
    assert gain_BK[0].tolist() == pytest.approx([4 / 3 * 0.1838, 0.0, 0.0], abs=1e-4)


@pytest.mark.parametrize(("with_real_body", "logq"), [(False, -5.5662), (True, -3.0436)])
def test_the_marginal_averages_over_other_feedback(with_real_body: bool, logq: float) -> None:
    # log ½(e^-5 + e^-7) = −5 + log ½(1 + e^-2) = −5.5662; with the real body also e^-2, over 3
    gain_BK = gain_marginal(
        tensor([[-2.0, NAN]]),
        tensor([[[-5.0, NAN, -7.0], [NAN, NAN, NAN]]]),
        tensor([[[True, False, True], [False, False, False]]]),
        tensor([[True, False]]),
        with_real_body=with_real_body,
    )
    assert gain_BK[0].tolist() == pytest.approx([-2.0 - logq, 0.0], abs=1e-4)


@settings(deadline=None, max_examples=50)
@given(
    logp=st.floats(-30, 0),
    others=st.lists(st.floats(-30, 0), min_size=1, max_size=5),
)
def test_with_the_real_body_the_marginal_gain_is_nearer_to_zero_and_bounded(
    logp: float, others: list[float]
) -> None:
    factual_BK = tensor([[logp]], dtype=torch.float64)
    alternative_BKM = tensor([[others]], dtype=torch.float64)
    every_BKM, yes_BK = torch.ones_like(alternative_BKM).bool(), tensor([[True]])
    arrays = (factual_BK, alternative_BKM, every_BKM, yes_BK)
    gain = float(gain_marginal(*arrays, with_real_body=True))
    assert gain <= math.log(len(others) + 1) + 1e-12
    # One more body that fits perfectly pulls the mixture towards the factual probability.
    without = float(gain_marginal(*arrays))
    assert min(0, without) - 1e-12 <= gain <= max(0, without) + 1e-12


def exact_information(joint_XY: Tensor) -> Tensor:
    """I(X; Y) in nats of a table of probabilities."""
    independent_XY = joint_XY.sum(1, keepdim=True) * joint_XY.sum(0, keepdim=True)
    return (joint_XY * (joint_XY / independent_XY).log()).sum()


@pytest.mark.parametrize("seed", range(5))
def test_the_expected_gain_is_the_information_plus_how_odd_the_placeholder_looks(
    seed: int,
) -> None:
    # 5 feedbacks O, 7 next turns A of one token; every (o, a) is a dialogue of its own.
    generator = torch.Generator().manual_seed(seed)
    prior_O = torch.rand(5, generator=generator, dtype=torch.float64).softmax(0)
    policy_OA = torch.randn(5, 7, generator=generator, dtype=torch.float64).softmax(1)
    placeholder_A = torch.randn(7, generator=generator, dtype=torch.float64).softmax(0)
    marginal_A = prior_O @ policy_OA
    joint_OA = prior_O.unsqueeze(1) * policy_OA
    turn_BT = tensor([[0, 1]]).expand(35, 2)
    eligible_BK = tensor([[True, False]]).expand(35, 2)

    def expected_gain(q_A: Tensor) -> Tensor:
        two_BT = torch.zeros(35, 2, dtype=torch.float64)
        factual_BT, counterfactual_BT = two_BT.clone(), two_BT.clone()
        factual_BT[:, 1] = policy_OA.log().flatten()
        counterfactual_BT[:, 1] = q_A.log().repeat(5)
        never_BK = torch.zeros_like(eligible_BK)
        ratio_BT = next_turn_log_ratio(
            factual_BT, counterfactual_BT, turn_BT, eligible_BK, never_BK
        )
        gain_BK = next_turn_sum(ratio_BT, turn_BT, 2)
        return (joint_OA.flatten() * gain_BK[:, 0]).sum()

    surplus = (marginal_A * (marginal_A / placeholder_A).log()).sum()
    information = exact_information(joint_OA)
    assert abs(float(expected_gain(placeholder_A) - information - surplus)) < 1e-12
    assert abs(float(expected_gain(marginal_A) - information)) < 1e-12


def test_fanos_inequality_bounds_the_expected_gain_from_below() -> None:
    # 4 equally likely intents, each told by its feedback; the next turn names the intent and errs
    # with δ = .1, evenly. With the marginal as placeholder the bound is met with equality.
    delta, m = 0.1, 4
    policy_OA = torch.full((m, m), delta / (m - 1), dtype=torch.float64)
    policy_OA.fill_diagonal_(1 - delta)
    information = float(exact_information(policy_OA / m))
    entropy = -delta * math.log(delta) - (1 - delta) * math.log(1 - delta)
    assert information == pytest.approx(math.log(m) - entropy - delta * math.log(m - 1), abs=1e-12)


@pytest.mark.parametrize("gain", GAINS)
def test_a_placeholder_equal_to_the_feedback_gains_exactly_nothing(gain: Gain) -> None:
    factual_BT, _ = scored([0.0, 0.0, 0.0])
    unscored_BT = torch.full_like(factual_BT, NAN)
    nothing_BT = next_turn_log_ratio(factual_BT, unscored_BT, TURN_BT, ELIGIBLE_BK, ELIGIBLE_BK)
    assert gain(nothing_BT, TURN_BT, 3).tolist() == [[0.0, 0.0, 0.0]]
    # Without the shortcut the branch was scored, in another order of additions.
    assert gains(gain, [-1e-13] * 3).abs().max() <= 1e-12


def test_a_divergence_that_was_not_asked_for_is_exactly_zero() -> None:
    unscored_BT = torch.full((1, 10), NAN)
    assert not gain_full_kl(unscored_BT, TURN_BT, ELIGIBLE_BK, ELIGIBLE_BK).any()
    assert not gain_full_kl(unscored_BT, TURN_BT, NOT_BK, NOT_BK).any()


def test_a_turn_of_which_a_tool_result_splits_the_next_counts_every_token() -> None:
    turn_BT = tensor([[0, -1, 1, -1, 1]])
    factual_BT, counterfactual_BT = tensor([[0.0, 9, -1, 9, -2]]), tensor([[0.0, 7, -2, 8, -5]])
    eligible_BK = tensor([[True, False]])
    never_BK = torch.zeros_like(eligible_BK)
    ratio_BT = next_turn_log_ratio(factual_BT, counterfactual_BT, turn_BT, eligible_BK, never_BK)
    # 1 + 3; what the user wrote does not count
    assert next_turn_sum(ratio_BT, turn_BT, 2).tolist() == [[4.0, 0.0]]


def test_sums_for_the_records_stand_at_the_credited_turn() -> None:
    factual_BT, counterfactual_BT = scored([0.4, -0.1, 0.6])
    assert next_turn_sum(factual_BT, TURN_BT, 3).tolist() == [[-6.0, -5.0, 0.0]]
    sum_BK = next_turn_sum(counterfactual_BT, TURN_BT, 3)
    assert sum_BK[0, 0].item() == pytest.approx(-6.9)
    assert sum_BK.isnan().tolist() == [[False, True, False]]  # no branch, no number
    assert per_next_token(tensor([[6.0, 5.0, 4.0]]), TURN_BT).tolist() == [[2.0, 5.0, 4.0]]


def test_k3_clamps_inside_the_exponential_only_and_counts() -> None:
    expected = (math.exp(-20) - 1 + 30 + math.exp(20) - 1 - 30) / 3
    assert gains(gain_k3, [30.0, -30.0, 0.0])[0, 0].item() == pytest.approx(expected)
    assert clamped_tokens(tensor([[30.0, -30.0, 0.0]])) == 2
    assert clamped_tokens(tensor([[20.0, -20.0, 0.0]])) == 0


ratios = st.lists(st.floats(-5, 5), min_size=3, max_size=3)


@settings(deadline=None, max_examples=50)
@given(ratios=ratios)
def test_k3_is_never_negative_and_mean_is_sum_over_length(ratios: list[float]) -> None:
    assert gains(gain_k3, ratios).min() >= -1e-12
    assert_close(3 * gains(gain_mean, ratios), gains(next_turn_sum, ratios))


@settings(deadline=None, max_examples=30)
@given(ratios=ratios, left=st.integers(0, 3), right=st.integers(0, 3), data=st.data())
def test_padding_and_what_stands_elsewhere_change_nothing(
    ratios: list[float], left: int, right: int, data: st.DataObject
) -> None:
    gain = data.draw(st.sampled_from(GAINS))
    padded = [torch.nn.functional.pad(x_BT, (left, right), value=NAN) for x_BT in scored(ratios)]
    turn_BT = torch.nn.functional.pad(TURN_BT, (left, right), value=-1)
    ratio_BT = next_turn_log_ratio(padded[0], padded[1], turn_BT, ELIGIBLE_BK, NOT_BK)
    assert_close(gain(ratio_BT, turn_BT, 3), gains(gain, ratios))


@pytest.mark.parametrize("bad", [NAN, math.inf, -math.inf])
def test_a_failed_score_names_dialogue_and_turn(bad: float) -> None:
    good, broken = scored([0.1, 0.2, 0.3]), scored([0.1, bad, 0.3])
    factual_BT, counterfactual_BT = (torch.cat(pair) for pair in zip(good, broken, strict=True))
    arrays = [x_BK.expand(2, -1) for x_BK in (TURN_BT, ELIGIBLE_BK, NOT_BK)]
    with pytest.raises(LogProbError, match="dialogue 1, turn 0.*finite"):
        next_turn_log_ratio(factual_BT, counterfactual_BT, arrays[0], arrays[1], arrays[2])


def test_a_missing_branch_of_a_full_divergence_is_no_zero() -> None:
    with pytest.raises(LogProbError, match="dialogue 0, turn 0.*divergence"):
        gain_full_kl(torch.full((1, 10), NAN), TURN_BT, ELIGIBLE_BK, NOT_BK)


@pytest.mark.parametrize(
    ("logp", "alternative", "is_alternative", "message"),
    [
        (NAN, -1.0, True, "finite log-probabilities"),
        (-1.0, -math.inf, True, "finite log-probabilities"),
        (-1.0, -1.0, False, "another feedback"),
    ],
)
def test_a_marginal_without_numbers_names_dialogue_and_turn(
    logp: float, alternative: float, is_alternative: bool, message: str
) -> None:
    with pytest.raises(LogProbError, match=f"dialogue 0, turn 0: expected {message}"):
        gain_marginal(
            tensor([[logp]]),
            tensor([[[alternative]]]),
            tensor([[[is_alternative]]]),
            tensor([[True]]),
        )


@pytest.mark.parametrize("turn_BT", [tensor([[0, 0, 2]]), tensor([[0, 1, 2]])])
def test_a_turn_without_a_next_one_is_not_eligible(turn_BT: Tensor) -> None:
    # Turn 1 is empty in the first dialogue; the last turn has no next one in the second.
    eligible_BK = tensor([[int(turn_BT[0, 1]) == 0, False, int(turn_BT[0, 1]) == 1]])
    x_BT = torch.zeros(1, 3)
    with pytest.raises(ShapeError, match=r"dialogue 0, turn [02].*not eligible"):
        next_turn_log_ratio(x_BT, x_BT, turn_BT, eligible_BK, torch.zeros_like(eligible_BK))


def test_arrays_of_other_shapes_are_refused() -> None:
    x_BT = torch.zeros(1, 9)
    with pytest.raises(ShapeError, match="x_BT"):
        next_turn_log_ratio(x_BT, x_BT, TURN_BT, ELIGIBLE_BK, NOT_BK)
    with pytest.raises(ShapeError, match="logp_counterfactual_BT"):
        next_turn_log_ratio(x_BT, torch.zeros(1, 1), TURN_BT, ELIGIBLE_BK, NOT_BK)
