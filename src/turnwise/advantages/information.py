"""Information gains as advantages: standardised, gated by the outcomes' spread, added to them.

    A_ext_b   = (R_b − mean_g R) / (std_g R + ε)                                             (2)
    A_info_bk = (gain_bk − μ_g) / (σ_g + ε) on valid turns, else 0                           (3)
    gate_g    = sigmoid(−std_g R / τ)                                                        (4)
    A_bt      = A_ext_b + β·gate_g·A_info_{b,k(t)} on written tokens, 0 elsewhere            (5)

All standard deviations divide by n − 1; ε = 1e-6. All dialogues given here are usable ones. A turn
is valid where `is_eligible_BK` is True; the gains of other turns do not matter, NaN included.
Source: Kong et al. 2026, InfoPO, arXiv:2603.00656; "public code" is what its authors published.
"""

import math

import torch
from torch import Tensor

from turnwise.advantages.groups import (
    above_lowest,
    group_centred,
    group_std,
    group_sum,
    num_siblings,
)
from turnwise.advantages.ranges import check_not_negative, check_positive
from turnwise.arrays import check_same_shape, last_turn, spread_to_tokens
from turnwise.errors import EmptyStepError

EPSILON = 1e-6


def raw_or_standardised(outcome_B: Tensor, group_of_dialogue_B: Tensor) -> Tensor:
    """Equation (2), but a dialogue without siblings keeps its outcome: A_ext = R.

    outcome_B: R, task units. Returns B; a group of two or more sums to zero, equal outcomes give
    exactly 0. Unlike `group_standardise` there is no floor but ε.
    Source: the public code (`group_of_one = "raw"`); a raw outcome is no advantage.
    """
    is_usable_B = torch.ones_like(group_of_dialogue_B, dtype=torch.bool)
    centred_B = group_centred(outcome_B, group_of_dialogue_B, is_usable_B)
    std_B = group_std(outcome_B, group_of_dialogue_B, is_usable_B)
    is_alone_B = num_siblings(group_of_dialogue_B, is_usable_B) < 2
    return torch.where(is_alone_B, outcome_B, centred_B / (std_B + EPSILON))


def sum_with_last_max(reward_BK: Tensor, is_turn_BK: Tensor) -> Tensor:
    """Outcome whose last reward was overwritten by the dialogue's largest one.

        R = Σ_{k<K−1} r_k + max_k r_k,   rounded to 4 decimals

    Returns outcome_B; 0 for a dialogue without a turn. Source: the public code.
    """
    check_same_shape(reward_BK=reward_BK, is_turn_BK=is_turn_BK)
    is_last_BK = last_turn(is_turn_BK)
    before_B = torch.where(is_turn_BK & ~is_last_BK, reward_BK, 0.0).sum(dim=1)
    largest_B = torch.where(is_turn_BK, reward_BK, -torch.inf).amax(dim=1)
    return torch.where(is_turn_BK.any(dim=1), before_B + largest_B, 0.0).round(decimals=4)


def gain_moments(
    gain_BK: Tensor, count_BK: Tensor, group_of_dialogue_B: Tensor
) -> tuple[Tensor, Tensor]:
    """μ_g and σ_g over a group's gains, pooled over turns and siblings.

    count_BK: how often each gain enters; is_eligible_BK for turns, each once.
    Returns mean_B and std_B, the same for all siblings; 0 where there are too few gains.
    """
    _, mean_B, std_B = _pooled(gain_BK, count_BK, group_of_dialogue_B)
    return mean_B, std_B


def groups_without_spread(std_B: Tensor, group_of_dialogue_B: Tensor, *, min_std: float) -> int:
    """Number of groups whose gains say nothing, so that A_info is 0 in them.

    std_B: from `gain_moments`. Fewer than two valid turns, equal gains, or σ_g < min_std.
    """
    return len(torch.unique(group_of_dialogue_B[~_has_spread(std_B, min_std)]))


def standardise_turns(
    gain_BK: Tensor, is_eligible_BK: Tensor, group_of_dialogue_B: Tensor, *, min_std: float
) -> Tensor:
    """Equation (3) over turns: every valid turn of the group counts once.

    min_std: nats; a group with σ_g below it (the noise of a bfloat16 forward is near 1e-3) gets 0,
    as does one with fewer than two valid turns. Returns A_info_BK; 0 on turns that are not valid.
    Laws: a group sums to zero; a constant added to its gains, or another order of siblings, changes
    nothing else; scaling its gains acts through ε alone.
    Raises ConfigError if min_std is negative; ShapeError if shapes differ.
    Source: arXiv:2603.00656, where "over the group" is read as over its turns.
    """
    return _standardised(gain_BK, is_eligible_BK, group_of_dialogue_B, min_std)


def standardise_tokens_div_len(
    gain_BK: Tensor,
    is_valid_BK: Tensor,
    length_BK: Tensor,
    group_of_dialogue_B: Tensor,
    *,
    min_std: float,
) -> Tensor:
    """Equation (3) over tokens: each of a turn's L_k tokens carries gain_k / L_k.

    Punishes long questions and can reverse the order of two turns: for comparison only.
    is_valid_BK: eligible turns, or those of them that `nonzero_turns` leaves. length_BK: L_k, the
    tokens of the turn that asked. Returns A_info_BK, 0 on turns that are not valid; weighted with
    its lengths a group sums to zero. Raises as `standardise_turns`. Source: the public code.
    """
    check_same_shape(gain_BK=gain_BK, length_BK=length_BK)
    share_BK = gain_BK / length_BK.clamp(min=1)
    return _standardised(share_BK, is_valid_BK * length_BK, group_of_dialogue_B, min_std)


def nonzero_turns(gain_BK: Tensor, is_eligible_BK: Tensor) -> Tensor:
    """Turns that are valid when a gain of exactly 0 is taken for a missing one. Returns bool BK.

    Source: the public code (`validity = "nonzero"`); by default 0 is a measurement.
    """
    return is_eligible_BK & (gain_BK != 0)


def centre_turns(gain_BK: Tensor, is_eligible_BK: Tensor, group_of_dialogue_B: Tensor) -> Tensor:
    """gain_bk − μ_g on valid turns, else 0: equation (3) without the division. Returns BK, nats."""
    return _pooled(gain_BK, is_eligible_BK, group_of_dialogue_B)[0]


def centre_turn_index(
    gain_BK: Tensor, is_eligible_BK: Tensor, group_of_dialogue_B: Tensor
) -> Tensor:
    """Each gain over the mean of the siblings' gains at the same turn, before equation (3).

        gain_bk − mean over siblings j valid at k of gain_jk      where there are 2 or more

    Early turns gain more, which equation (3) alone would reward. A turn that no sibling shares
    keeps its gain. Returns BK, nats; 0 on turns that are not valid. Source: ours.
    """
    check_same_shape(gain_BK=gain_BK, is_eligible_BK=is_eligible_BK)
    _, index_B = torch.unique(group_of_dialogue_B, return_inverse=True)
    turn_K = torch.arange(gain_BK.shape[1], device=gain_BK.device)
    at_turn_N = (index_B.unsqueeze(1) * gain_BK.shape[1] + turn_K).flatten()
    is_valid_N = is_eligible_BK.flatten()
    centred_N = group_centred(gain_BK.flatten(), at_turn_N, is_valid_N)
    kept_N = torch.where(is_valid_N, gain_BK.flatten(), 0.0)
    is_shared_N = num_siblings(at_turn_N, is_valid_N) >= 2
    return torch.where(is_shared_N, centred_N, kept_N).view_as(gain_BK)


def variance_gate(outcome_B: Tensor, group_of_dialogue_B: Tensor, *, temperature: float) -> Tensor:
    """Equation (4): how far the information term counts, most where outcomes are alike.

        gate_g = sigmoid(−std_g R / τ)

    outcome_B: the raw R of (2), so that τ belongs to its scale. temperature: τ > 0.
    Returns gate_B in (0, 0.5], the same for all siblings; 0.5 for equal outcomes and for a group of
    one. Raises ConfigError unless temperature > 0.
    """
    check_positive("gate_temperature", temperature)
    is_usable_B = torch.ones_like(group_of_dialogue_B, dtype=torch.bool)
    return torch.sigmoid(-group_std(outcome_B, group_of_dialogue_B, is_usable_B) / temperature)


def magnitude_cap(external_B: Tensor, information_BK: Tensor, length_BK: Tensor) -> Tensor:
    """What to multiply A_info with, so that it does not vary more than A_ext.

        c = min(1, max(std(A_ext) + ε, 1) / (std(A_info) + ε))

    Both stds over all written tokens of the batch, those of turns that are not valid included.
    length_BK: written tokens of each turn. Returns a scalar in (0, 1]; with token-pooled statistics
    it is 1 up to 1e-6. Raises EmptyStepError for fewer than two written tokens.
    Source: the public code.
    """
    check_same_shape(information_BK=information_BK, length_BK=length_BK)
    if int(length_BK.sum()) < 2:
        raise EmptyStepError(
            f"expected two or more written tokens, got {int(length_BK.sum())}; were all dialogues "
            "of this step dropped?"
        )
    batch_B = torch.zeros_like(external_B, dtype=torch.int64)
    external_BK = external_B.unsqueeze(1).expand_as(information_BK)
    external_std, information_std = (
        gain_moments(x_BK, length_BK, batch_B)[1][0] for x_BK in (external_BK, information_BK)
    )
    return ((external_std + EPSILON).clamp(min=1) / (information_std + EPSILON)).clamp(max=1)


def decayed_weight(beta: float, *, decay: float, epoch: float) -> float:
    """β_e = β·exp(−decay·epoch). Raises ConfigError if beta or decay is negative."""
    check_not_negative("beta", beta)
    check_not_negative("decay", decay)
    return beta * math.exp(-decay * epoch)


def decayed_twice(beta: float, *, decay: float, epoch: float) -> float:
    """β·exp(−2·decay·epoch): the decay enters twice. Source: the public code."""
    return decayed_weight(beta, decay=2 * decay, epoch=epoch)


def fused(
    external_BT: Tensor,
    information_BK: Tensor,
    gate_B: Tensor,
    turn_of_token_BT: Tensor,
    *,
    weight: float,
) -> Tensor:
    """Equation (5): A_bt = A_ext_bt + β·gate_g·A_info_{b,k(t)} on written tokens.

    external_BT: A_ext; in the paper one number a dialogue. information_BK: 0 on turns that are not
    valid, which so get A_ext alone. gate_B: from `variance_gate`; ones for no gate. weight: β after
    any decay. Returns advantage_BT, 0 where not written.
    """
    term_BK = weight * gate_B.unsqueeze(1) * information_BK
    written_BT = turn_of_token_BT >= 0
    return torch.where(written_BT, external_BT, 0.0) + spread_to_tokens(term_BK, turn_of_token_BT)


def information_share(
    external_BK: Tensor,
    information_BK: Tensor,
    gate_B: Tensor,
    length_BK: Tensor,
    *,
    weight: float,
) -> float | None:
    """How much of the advantage the information term makes up.

        mean |β·gate·A_info| / (mean |A_ext| + mean |β·gate·A_info|)      over written tokens

    external_BK: A_ext of each turn's tokens. length_BK: written tokens of each turn.
    Returns a number in [0, 1]; None if both terms are 0.
    """
    check_same_shape(information_BK=information_BK, length_BK=length_BK)
    term_BK = weight * gate_B.unsqueeze(1) * information_BK
    information = float((term_BK.abs() * length_BK).sum())
    total = information + float((external_BK.abs() * length_BK).sum())
    return information / total if total > 0 else None


def _standardised(
    value_BK: Tensor, count_BK: Tensor, group_of_dialogue_B: Tensor, min_std: float
) -> Tensor:
    check_not_negative("min_info_std", min_std)
    centred_BK, _, std_B = _pooled(value_BK, count_BK, group_of_dialogue_B)
    has_spread_B1 = _has_spread(std_B, min_std).unsqueeze(1)
    return torch.where(has_spread_B1, centred_BK / (std_B.unsqueeze(1) + EPSILON), 0.0)


def _has_spread(std_B: Tensor, min_std: float) -> Tensor:
    return (std_B >= min_std) & (std_B > 0)


def _pooled(
    value_BK: Tensor, count_BK: Tensor, group_of_dialogue_B: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Centred values (0 where not counted), and mean and std (n − 1) of each dialogue's group."""
    check_same_shape(value_BK=value_BK, count_BK=count_BK)
    is_counted_BK, count_BK = count_BK > 0, count_BK.to(value_BK.dtype)
    group_N = group_of_dialogue_B.repeat_interleave(value_BK.shape[1])
    low_N, above_N = above_lowest(value_BK.flatten(), group_N, is_counted_BK.flatten())
    above_BK = above_N.view_as(value_BK)
    size_B = group_sum(count_BK.sum(dim=1), group_of_dialogue_B)
    above_B = group_sum((count_BK * above_BK).sum(dim=1), group_of_dialogue_B)
    above_B = above_B / size_B.clamp(min=1)
    centred_BK = torch.where(is_counted_BK, above_BK - above_B.unsqueeze(1), 0.0)
    square_B = group_sum((count_BK * centred_BK.square()).sum(dim=1), group_of_dialogue_B)
    low_B = low_N.view_as(value_BK)[:, :1].sum(dim=1)  # every turn's copy is the same
    mean_B = torch.where(size_B > 0, low_B + above_B, 0.0)
    return centred_BK, mean_B, (square_B / (size_B - 1).clamp(min=1)).sqrt()
