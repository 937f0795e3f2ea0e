"""Numbers that show what a credit is worth: against the truth, against itself, by what it gained.

Pure functions from a step's arrays to entries of metrics.jsonl; the equations are in
`turnwise.credit`. A number that a step cannot give (no variance, nothing measured) is left out, so
that a curve has a gap there and no invented point.
"""

import math
from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor

from turnwise.advantages import gain_moments, groups_without_spread
from turnwise.arrays import check_same_shape, turn_length, turn_sum
from turnwise.credit import best_turn_agreement, kendall_tau_b, rank_stability, spearman
from turnwise.training.evidence import InfoScores
from turnwise.training.metrics import by_turn

_TRUTH_DIGITS = 6  # exact values come with rounding; beyond these digits they are ties


def truth_agreement(
    credit_BK_by_name: Mapping[str, Tensor],
    truth_gain_BK: Tensor | None,
    truth_oracle_BK: Tensor | None,
    is_turn_BK: Tensor,
) -> dict[str, float]:
    """Rank correlation of each method's credit with what the turns really did, over all turns.

    credit_BK_by_name: method -> credit; a turn where it is NaN was not credited and is left out.
    truth_gain_BK: nats; truth_oracle_BK: outcome units; None: not known.
    Returns truth/{spearman|kendall}_{gain|oracle}/{method} in [−1, 1]; without an entry where the
    credit or the truth is the same for all turns.
    Raises ShapeError if a credit and the truth have different shapes.
    """
    found = {}
    for truth, truth_BK in (("gain", truth_gain_BK), ("oracle", truth_oracle_BK)):
        if truth_BK is None:
            continue
        truth_N = truth_BK[is_turn_BK].double().round(decimals=_TRUTH_DIGITS).cpu().numpy()
        for method, credit_BK in credit_BK_by_name.items():
            check_same_shape(credit_BK=credit_BK, truth_BK=truth_BK, is_turn_BK=is_turn_BK)
            credit_N = credit_BK[is_turn_BK].double().cpu().numpy()
            found[f"truth/spearman_{truth}/{method}"] = spearman(credit_N, truth_N)
            found[f"truth/kendall_{truth}/{method}"] = kendall_tau_b(credit_N, truth_N)
    return _known(found)


def stability_metrics(
    reward_before_BT: Tensor,
    reward_after_BT: Tensor,
    turn_of_token_BT: Tensor,
    oracle_BK: Tensor | None,
) -> dict[str, float]:
    """Whether the reward model's update kept the order of a dialogue's rewards, and if it is right.

    reward_before_BT, reward_after_BT: rewards of written tokens before and after the step's update
    of the reward model; turns are sums. oracle_BK: exact credit, compared with the rewards after
    the update; None: not known.
    Returns prm/stability_{turns|tokens} in [−1, 1] and prm/{best|worst}_turn_{agreement|chance} in
    [0, 1]; without an entry where no dialogue could be counted.
    """
    written_BT = turn_of_token_BT >= 0
    is_turn_BK = turn_length(turn_of_token_BT) > 0
    before_BK, after_BK = (
        turn_sum(reward_BT, turn_of_token_BT) for reward_BT in (reward_before_BT, reward_after_BT)
    )
    found = {
        "prm/stability_turns": rank_stability(before_BK, after_BK, is_turn_BK),
        "prm/stability_tokens": rank_stability(reward_before_BT, reward_after_BT, written_BT),
    }
    if oracle_BK is not None:
        turns = best_turn_agreement(after_BK, oracle_BK, is_turn_BK)
        found |= {
            "prm/best_turn_agreement": turns.best,
            "prm/worst_turn_agreement": turns.worst,
            "prm/best_turn_chance": turns.best_chance,
            "prm/worst_turn_chance": turns.worst_chance,
        }
    return _known(found)


def information_metrics(
    scores: InfoScores, gate_B: Tensor, group_B: Tensor, *, share: float | None, min_std: float
) -> dict[str, float]:
    """What information gains did in a step.

    gate_B: the same for all siblings; every group counts once. share: of the advantage, None where
    it has no size. min_std: nats; a scored group whose gains spread less is flat.
    Returns info/… and credit/infopo/refused/{reason}; means without an entry where no turn has a
    gain.
    """
    gain_BK, is_eligible_BK = scores.gain_BK, scores.is_eligible_BK
    gain_N = gain_BK[is_eligible_BK]
    _, std_B = gain_moments(gain_BK, is_eligible_BK, group_B)
    of_scored = (std_B[scores.is_scored_B], group_B[scores.is_scored_B])
    found = {
        "info/gain_mean": float(gain_N.mean()),
        "info/negative_frac": float((gain_N < 0).double().mean()),
        "info/copied_share": float(scores.copied_share_BK[is_eligible_BK].mean()),
        "info/gate_mean": _over_groups(gate_B, group_B),
        "info/groups_scored_frac": _over_groups(scores.is_scored_B, group_B),
        "info/share": math.nan if share is None else share,
        "info/flat_groups": float(groups_without_spread(*of_scored, min_std=min_std)),
        **by_turn("info/gain/", gain_BK, is_eligible_BK),
    }
    for k, count in enumerate(is_eligible_BK.sum(dim=0).tolist()):
        if count:
            found[f"info/gain_count/{k}"] = float(count)
    reasons = Counter(reason for of_turns in scores.refusal for reason in of_turns if reason)
    for reason, count in sorted(reasons.items()):
        found[f"credit/infopo/refused/{reason.replace(' ', '_')}"] = float(count)
    if scores.clamped_tokens is not None:
        found["info/clamped_tokens"] = float(scores.clamped_tokens)
    return _known(found)


def _over_groups(x_B: Tensor, group_B: Tensor) -> float:
    """Mean over groups of what all siblings share."""
    weight_B = 1 / torch.bincount(group_B)[group_B].double()
    return float((weight_B * x_B).sum() / weight_B.sum())


def _known(found: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in found.items() if not math.isnan(value)}
