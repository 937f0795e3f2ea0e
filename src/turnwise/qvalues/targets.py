"""What Q is fitted to: Monte Carlo returns and their validity, and one step of fitted Q evaluation.

Columns are the decision steps of a conversation; `is_step_BK` says which exist. Rewards stand on
the step that they follow, the outcome on the last one: an index shifted by one would leave it out.
Returns are made of them by `turnwise.advantages.reward_to_go`. An outcome that is not known is NaN,
never 0, and a NaN stays one through every sum.
"""

import torch
from torch import Tensor

from turnwise.arrays import check_same_shape, last_turn


def rewards_with_outcome(reward_BK: Tensor, outcome_B: Tensor, is_step_BK: Tensor) -> Tensor:
    """Reward of each step with the outcome paid on the last one.

    reward_BK: what arrived after each step, without the outcome. outcome_B: NaN where censored;
    then the last step holds NaN. Returns BK, 0 where there is no step.
    """
    check_same_shape(reward_BK=reward_BK, is_step_BK=is_step_BK)
    kept_BK = torch.where(is_step_BK, reward_BK, 0.0)
    return torch.where(last_turn(is_step_BK), kept_BK + outcome_B.unsqueeze(1), kept_BK)


def has_monte_carlo_target(
    is_step_BK: Tensor, is_on_policy_BK: Tensor, is_censored_B: Tensor
) -> Tensor:
    """True where the return is a sample of Q of the policy: it alone wrote every later step.

    is_on_policy_BK: written by the policy in question and without deviation; a step's own entry
    does not matter to it, since Q is asked about any action. Returns bool BK; a censored
    conversation has no such step, a deviated one has them from its last deviation on.
    """
    check_same_shape(is_step_BK=is_step_BK, is_on_policy_BK=is_on_policy_BK)
    is_foreign_BK = (is_step_BK & ~is_on_policy_BK).long()
    foreign_later_BK = is_foreign_BK.flip(1).cumsum(dim=1).flip(1) - is_foreign_BK
    return is_step_BK & (foreign_later_BK == 0) & ~is_censored_B.unsqueeze(1)


def fqe_target(reward: Tensor, next_value: Tensor, is_last: Tensor, *, discount: float) -> Tensor:
    """One-step target of fitted Q evaluation.

        y = r + γ·(1/M)·Σ_m Q̄(s', y^m),   y^m ~ π;      y = r on the last step

    next_value: the mean of the frozen Q̄ over replies that the policy itself gives at the next
    state, at the step they follow; its values on last steps do not matter. With the logged next
    reply or a value head of mixed logs in its place the fixed point is the Q of whoever wrote the
    logs. All of one shape. Returns that shape, return units.
    Source: fitted Q evaluation, Le et al. 2019, arXiv:1903.08738.
    """
    check_same_shape(reward=reward, next_value=next_value, is_last=is_last)
    return reward + discount * torch.where(is_last, torch.zeros_like(next_value), next_value)
