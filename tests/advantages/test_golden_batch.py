"""The published arithmetic, from token rewards to advantages, on one small batch worked by hand.

Two problems with two siblings each. Numbers: the golden batch of the method's page, tolerance 5e-5
because they are printed with five digits.
"""

import pytest
import torch
from torch import Tensor, tensor
from torch.testing import assert_close

from turnwise.advantages import (
    RewardSource,
    leave_one_out,
    loo_total,
    masked_rloo,
    redistribute_direct,
    reward_to_go,
    scale_by_rms,
    whiten_with_shift,
)
from turnwise.arrays import place_at_turn_ends, spread_to_tokens, turn_length, turn_sum
from turnwise.credit import (
    max_return_normalised,
    outcome_on_last_turn,
    penalty_share,
    robust_batch_scale,
    shared_outcome,
    signed_turn_weights,
    turn_logits_mean_times_global_length,
    turn_logits_sum,
    turn_weights,
)

LENGTHS = [[2, 3], [4], [1, 2, 2], [3, 1]]
REWARDS = [[0.1, -0.05], [0.02], [0.3, 0.0, -0.1], [-0.2, 0.4]]
OUTCOME_B = tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
PENALTY_B = tensor([-0.04, -0.01, -0.02, -0.03], dtype=torch.float64)
GROUP_B = tensor([7, 7, -3, -3])
VALID_B = torch.ones(4, dtype=torch.bool)
ETA, COEFFICIENT = 0.4, 5.0

Rows = list[list[float]]


def close(actual: Tensor, expected: Tensor) -> None:
    assert_close(actual, expected.to(actual), atol=5e-5, rtol=0)


def table(rows: Rows, width: int = 3) -> Tensor:
    """Rows of unequal length as BK, filled with zeros."""
    return tensor([row + [0.0] * (width - len(row)) for row in rows], dtype=torch.float64)


def tokens() -> tuple[Tensor, Tensor]:
    """Token rewards and turns: a prompt token, two user tokens after each turn, padding."""
    rows = []
    for lengths, rewards in zip(LENGTHS, REWARDS, strict=True):
        row = [(0.0, -1)]
        for k, (length, reward) in enumerate(zip(lengths, rewards, strict=True)):
            row += [(reward, k)] * length + [(99.0, -1)] * 2
        rows.append(row + [(99.0, -1)] * (14 - len(row)))
    reward_BT = tensor([[r for r, _ in row] for row in rows], dtype=torch.float64)
    return reward_BT, tensor([[k for _, k in row] for row in rows])


REWARD_BT, TURN_BT = tokens()
WRITTEN_BT = TURN_BT >= 0
LENGTH_BK = turn_length(TURN_BT)
IS_TURN_BK = LENGTH_BK > 0
SHARE_BK = penalty_share(LENGTH_BK, dtype=torch.float64)
PENALTY_BK = PENALTY_B.unsqueeze(1) * SHARE_BK


def at_first_tokens(x_BT: Tensor) -> Tensor:
    """The value at each turn's first token, BK; 0 where there is no turn."""
    before_BT = torch.nn.functional.pad(TURN_BT, (1, 0), value=-1)[:, :-1]
    is_first_BT = WRITTEN_BT & (before_BT != TURN_BT)
    return turn_sum(torch.where(is_first_BT, x_BT, 0.0), TURN_BT)


def at_ends(reward_BK: Tensor, coefficient: float = COEFFICIENT) -> RewardSource:
    is_end_BT = place_at_turn_ends(IS_TURN_BK.double(), TURN_BT) > 0
    return RewardSource(place_at_turn_ends(reward_BK, TURN_BT), is_end_BT, coefficient)


def on_last_end() -> RewardSource:
    total_BK = outcome_on_last_turn(OUTCOME_B + PENALTY_B, IS_TURN_BK)
    is_last_BK = outcome_on_last_turn(torch.ones_like(OUTCOME_B), IS_TURN_BK)
    is_last_BT = place_at_turn_ends(is_last_BK, TURN_BT) > 0
    return RewardSource(place_at_turn_ends(total_BK, TURN_BT), is_last_BT, COEFFICIENT)


def normalised() -> Tensor:
    return max_return_normalised(REWARD_BT, TURN_BT, torch.zeros(4, dtype=torch.int64))


def public_weights(shard_B: Tensor) -> Tensor:
    reward_BT = max_return_normalised(REWARD_BT, TURN_BT, shard_B)
    logit_BK = turn_logits_mean_times_global_length(turn_sum(reward_BT, TURN_BT), LENGTH_BK)
    return turn_weights(logit_BK, IS_TURN_BK, scale=1.0, temperature=ETA)


def public_sources(method: str) -> list[RewardSource]:
    one_shard_B = torch.zeros(4, dtype=torch.int64)
    itpo = [at_ends(turn_sum(normalised(), TURN_BT)), at_ends(PENALTY_BK)]
    return {
        "norm": [at_ends(shared_outcome(OUTCOME_B, public_weights(one_shard_B)) + PENALTY_BK)],
        "itpo": itpo,
        "itpo, 5:5": [*itpo, on_last_end()],
        "prime": [RewardSource(normalised(), WRITTEN_BT, COEFFICIENT), at_ends(PENALTY_BK)],
        "trajectory": [on_last_end()],
    }[method]


def test_published_weights_depend_on_the_division_into_shards() -> None:
    one_shard_BK = public_weights(tensor([0, 0, 0, 0]))
    expected_BK = table(
        [[0.89181, 0.10819], [1.0], [0.98201, 0.01445, 0.00354], [0.00022, 0.99978]]
    )
    close(one_shard_BK, expected_BK)
    two_shards_BK = public_weights(tensor([1, 1, 5, 5]))
    close(two_shards_BK[0], tensor([0.99641, 0.00359, 0.0]))
    close(two_shards_BK[1:], expected_BK[1:])


GOLDEN: dict[str, tuple[Rows, Rows]] = {
    "norm": (
        [[4.9, -1.50811], [-2.45], [-2.375, -8.09673, -4.10292], [1.58333, 5.8645]],
        [[1.52517, -0.09051], [-0.32799], [-0.30908, -1.75171, -0.74475], [0.68894, 1.76835]],
    ),
    "itpo": (
        [[-1.475, -5.15249], [0.7375], [5.12499, -3.27666, -4.13832], [-3.41666, 10.86664]],
        [[-0.02706, -0.92085], [0.51067], [1.57702, -0.46494, -0.67437], [-0.49897, 2.97249]],
    ),
    "itpo, 5:5": (
        [[3.375, -0.30249], [-4.1125], [5.17499, -3.22666, -4.08832], [-3.46666, 10.81664]],
        [[1.05734, 0.18677], [-0.71518], [1.48345, -0.50547, -0.70945], [-0.56229, 2.819]],
    ),
    "prime": (
        [[-0.725, -4.96499], [0.55], [4.49999, -3.44332, -4.22166], [-3.58332, 10.40831]],
        [[-0.07498, -1.14288], [0.24615], [1.24102, -0.75963, -0.95566], [-0.79489, 2.72912]],
    ),
    "trajectory": (
        [[4.85, 4.85], [-4.85], [0.05, 0.05, 0.05], [-0.05, -0.05]],
        [
            [1.30126, 1.30126],
            [-1.45603],
            [-0.06317, -0.06317, -0.06317],
            [-0.09159, -0.09159],
        ],
    ),
}


@pytest.mark.parametrize("method", GOLDEN)
def test_the_published_pipeline_gives_the_golden_numbers(method: str) -> None:
    suffix_BT = masked_rloo(public_sources(method), WRITTEN_BT, GROUP_B, VALID_B)
    suffix_sums, advantages = GOLDEN[method]
    close(at_first_tokens(suffix_BT), table(suffix_sums))
    close(at_first_tokens(whiten_with_shift(suffix_BT, WRITTEN_BT)), table(advantages))


def default_norm(penalty_B: Tensor) -> Tensor:
    logit_BK = turn_logits_sum(turn_sum(REWARD_BT, TURN_BT))
    scale = robust_batch_scale(logit_BK, IS_TURN_BK, VALID_B)
    centred_B = leave_one_out(OUTCOME_B, GROUP_B, VALID_B)
    weight_BK = signed_turn_weights(logit_BK, IS_TURN_BK, centred_B, scale=scale, temperature=1.0)
    by_length_BK = redistribute_direct(
        leave_one_out(penalty_B, GROUP_B, VALID_B), SHARE_BK, IS_TURN_BK
    )
    return redistribute_direct(centred_B, weight_BK, IS_TURN_BK) + by_length_BK


def test_the_default_weights_are_golden() -> None:
    logit_BK = turn_logits_sum(turn_sum(REWARD_BT, TURN_BT))
    scale = robust_batch_scale(logit_BK, IS_TURN_BK, VALID_B)
    close(scale, tensor(0.41470))
    centred_B = leave_one_out(OUTCOME_B, GROUP_B, VALID_B)
    weight_BK = signed_turn_weights(logit_BK, IS_TURN_BK, centred_B, scale=scale, temperature=1.0)
    rows = [[0.6993, 0.3007], [1.0], [0.56035, 0.27183, 0.16782], [0.08231, 0.91769]]
    close(weight_BK, table(rows))


@pytest.mark.parametrize(
    ("penalty_B", "rows", "rms"),
    [
        (torch.zeros_like(PENALTY_B), [[1.3986, 0.6014], [-1.0], [], []], 0.70700),
        (
            PENALTY_B,
            [[1.3746, 0.5654], [-0.97], [0.006, 0.012, 0.012], [-0.015, -0.005]],
            0.68731,
        ),
    ],
)
def test_the_default_norm_is_golden_and_silent_without_signal(
    penalty_B: Tensor, rows: Rows, rms: float
) -> None:
    advantage_BK = default_norm(penalty_B)
    close(advantage_BK, table(rows))
    spread_BT = spread_to_tokens(advantage_BK, TURN_BT)
    close(scale_by_rms(spread_BT, WRITTEN_BT), spread_BT / rms)
    if not penalty_B.any():
        assert not advantage_BK[2:].any()


def test_the_papers_norm_is_golden() -> None:
    weight_BK = turn_weights(
        turn_logits_sum(turn_sum(REWARD_BT, TURN_BT)), IS_TURN_BK, scale=1.0, temperature=ETA
    )
    return_BK = reward_to_go(shared_outcome(OUTCOME_B, weight_BK), IS_TURN_BK, discount=1.0)
    advantage_BK = loo_total(return_BK, IS_TURN_BK, GROUP_B, VALID_B)
    close(advantage_BK, table([[1.0, 0.29421], [-1.0], [0, -0.56855, -0.83711], [0, -0.07586]]))


def test_only_the_sum_at_the_first_token_has_a_closed_form() -> None:
    # Σ_k R_ik − K_i·mean_{j≠i} μ_j; for `norm`: rows 1, 2: .96 − 2·(−.01) and −.01 − .48.
    suffix_BT = masked_rloo(public_sources("norm"), WRITTEN_BT, GROUP_B, VALID_B)
    close(at_first_tokens(suffix_BT)[:2, 0], COEFFICIENT * tensor([0.98, -0.49]))
