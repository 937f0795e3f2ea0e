"""What each turn was worth beyond expectation: baselines, redistribution, GAE and scaling.

Arrays in, arrays out. Where rewards come from is the business of `turnwise.credit`.
"""

from turnwise.advantages.baselines import (
    loo_total,
    loo_turn_index,
    own_turn,
    standardised_returns,
    turn_index_reward_centring,
)
from turnwise.advantages.calibration import JudgedTurns, TurnCalibration, fit_turn_calibration
from turnwise.advantages.gae import gae_over_tokens, gae_over_turns, generalised_advantages
from turnwise.advantages.groups import (
    check_group_size,
    group_standardise,
    group_std,
    group_sum,
    groups_without_siblings,
    has_siblings,
    leave_one_out,
    mean_of_others,
    num_siblings,
    over_group_std,
)
from turnwise.advantages.implicit_value import (
    calibration_gap,
    group_offset_values,
    implicit_value_advantages,
    implicit_values,
    td_residuals,
)
from turnwise.advantages.public_code import RewardSource, masked_rloo
from turnwise.advantages.returns import (
    first_return,
    redistribute_direct,
    redistribute_to_go,
    reward_to_go,
    same_for_all_turns,
    sums_before,
    turn_number,
)
from turnwise.advantages.scaling import (
    lambda_under_trust,
    mix_by_trust,
    scale_by_rms,
    scale_turns_by_rms,
    whiten_with_shift,
)

__all__ = [
    "JudgedTurns",
    "RewardSource",
    "TurnCalibration",
    "calibration_gap",
    "check_group_size",
    "first_return",
    "fit_turn_calibration",
    "gae_over_tokens",
    "gae_over_turns",
    "generalised_advantages",
    "group_offset_values",
    "group_standardise",
    "group_std",
    "group_sum",
    "groups_without_siblings",
    "has_siblings",
    "implicit_value_advantages",
    "implicit_values",
    "lambda_under_trust",
    "leave_one_out",
    "loo_total",
    "loo_turn_index",
    "masked_rloo",
    "mean_of_others",
    "mix_by_trust",
    "num_siblings",
    "over_group_std",
    "own_turn",
    "redistribute_direct",
    "redistribute_to_go",
    "reward_to_go",
    "same_for_all_turns",
    "scale_by_rms",
    "scale_turns_by_rms",
    "standardised_returns",
    "sums_before",
    "td_residuals",
    "turn_index_reward_centring",
    "turn_number",
    "whiten_with_shift",
]
