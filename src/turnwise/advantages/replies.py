"""Single replies to a prompt: the KL to the reference inside the reward, and three advantages.

A row is one reply (turn 0 of `turn_of_token_BT`), its siblings are the other replies to the same
prompt. The discount inside a reply is 1 and no setting: any other rewards short replies for being
short. With Q as the reward the optimum is π_k(y|s)·exp(Q(s, y)/β)/Z(s), token by token as well as
reply by reply.

Source: Jiang et al. 2025, arXiv:2511.21638, the single-turn step; the estimators as cited.
"""

import math
import warnings

import torch
from torch import Tensor

from turnwise.advantages.gae import generalised_advantages
from turnwise.advantages.groups import (
    group_centred,
    group_standardise,
    leave_one_out,
    num_siblings,
)
from turnwise.advantages.ranges import check_positive, check_share
from turnwise.arrays import check_same_shape, place_at_turn_ends
from turnwise.errors import GroupError, LogProbError


def kl_penalty(
    logp_policy_BT: Tensor, logp_reference_BT: Tensor, turn_of_token_BT: Tensor, *, beta: float
) -> Tensor:
    """What each token pays for leaving the reference: β·(log π_θ − log π_k), reward units.

    Log-probabilities in nats at temperature 1, both scored by the trainer; their values do not
    matter where the policy did not write. Returns penalty_BT, without gradient, 0 where not
    written; summed over the reply it estimates β·KL(π_θ ‖ π_k).
    Raises ConfigError for β ≤ 0; LogProbError for a value that is not finite where written.
    """
    check_positive("beta", beta)
    check_same_shape(
        logp_policy_BT=logp_policy_BT,
        logp_reference_BT=logp_reference_BT,
        turn_of_token_BT=turn_of_token_BT,
    )
    written_BT = turn_of_token_BT >= 0
    log_ratio_BT = logp_policy_BT.detach() - logp_reference_BT.detach()
    bad_BT = written_BT & ~torch.isfinite(log_ratio_BT)
    if bool(bad_BT.any()):
        b, t = (int(i) for i in bad_BT.nonzero()[0])
        raise LogProbError(
            f"reply {b}, position {t}: expected finite log-probabilities where the policy wrote, "
            f"found {logp_policy_BT[b, t].item()} of the policy and "
            f"{logp_reference_BT[b, t].item()} of the reference; check the models that scored it"
        )
    return torch.where(written_BT, beta * log_ratio_BT, 0.0)


def reply_token_rewards(reward_B: Tensor, penalty_BT: Tensor, turn_of_token_BT: Tensor) -> Tensor:
    """Reward of each token of a reply: −penalty, plus R on the end token.

    penalty_BT: from `kl_penalty`. Returns BT, 0 where not written; rows sum to
    ρ = R − β·Σ_t (log π_θ − log π_k), and to 0 for a row where nothing was written.
    """
    return place_at_turn_ends(reward_B.unsqueeze(1), turn_of_token_BT) - penalty_BT


def rloo_replies(
    reward_B: Tensor, penalty_B: Tensor, prompt_of_reply_B: Tensor, is_valid_B: Tensor
) -> Tensor:
    """Each reply's ρ above the mean ρ of the other replies to its prompt.

        A_i = ρ_i − Σ_{j≠i} ρ_j/(n − 1),   ρ = R − penalty

    reward_B: R. penalty_B: the summed `kl_penalty`. prompt_of_reply_B: int64, equal among siblings.
    Reward and penalty are compared apart and then subtracted: equal rewards leave exactly the
    penalty's part. Returns B, for every token of the reply; every prompt sums to 0.
    Raises GroupError for a valid reply without a valid sibling.
    Source: RLOO, Ahmadian et al. 2024, arXiv:2402.14740.
    """
    _check_siblings("RLOO", prompt_of_reply_B, is_valid_B)
    of_reward_B = leave_one_out(reward_B, prompt_of_reply_B, is_valid_B)
    return of_reward_B - leave_one_out(penalty_B, prompt_of_reply_B, is_valid_B)


def grpo_replies(
    reward_B: Tensor, penalty_B: Tensor, prompt_of_reply_B: Tensor, is_valid_B: Tensor
) -> Tensor:
    """Each reply's ρ above the mean ρ of all replies to its prompt: (n − 1)/n of `rloo_replies`.

    Arguments, Returns and Raises as there. Not divided by the prompt's standard deviation: that
    would push hardest where the reply hardly matters.
    Source: GRPO, Shao et al. 2024, arXiv:2402.03300, without the division.
    """
    _check_siblings("GRPO", prompt_of_reply_B, is_valid_B)
    of_reward_B = group_centred(reward_B, prompt_of_reply_B, is_valid_B)
    return of_reward_B - group_centred(penalty_B, prompt_of_reply_B, is_valid_B)


def rewards_over_group_std(
    reward_B: Tensor, prompt_of_reply_B: Tensor, is_valid_B: Tensor
) -> Tensor:
    """Rewards in standard deviations of their own prompt, to be used in the place of R.

        R_i ← (R_i − mean_j R_j) / std_j R_j

    The KL of a prompt then costs β·σ_s instead of β. Returns B; exactly 0 for equal rewards.
    Raises GroupError for a valid reply without a valid sibling. Warns.
    Source: GRPO, Shao et al. 2024, arXiv:2402.03300.
    """
    warnings.warn(
        'scale_rewards = "group": each prompt has its own β then, and prompts where the reply '
        "hardly matters are pushed hardest; one scale for the round does neither",
        stacklevel=2,
    )
    _check_siblings("GRPO", prompt_of_reply_B, is_valid_B)
    return group_standardise(reward_B, prompt_of_reply_B, is_valid_B)


def ppo_replies(
    token_reward_BT: Tensor, value_BT: Tensor, turn_of_token_BT: Tensor, *, token_lambda: float
) -> Tensor:
    """Advantage of each token of a reply, with a value read before each of its tokens.

        δ_t = r_t + V_{t+1} − V_t,   A_t = δ_t + λ·A_{t+1};   V = 0 behind the end token

    token_reward_BT: from `reply_token_rewards`. λ = 1 gives what is still to come minus V.
    Returns advantage_BT, 0 where not written. Raises ConfigError unless λ is in [0, 1].
    Source: Schulman et al. 2016, arXiv:1506.02438, with discount 1.
    """
    check_share("token_lambda", token_lambda)
    return generalised_advantages(
        token_reward_BT,
        value_BT,
        turn_of_token_BT >= 0,
        discount_BN=torch.ones_like(value_BT),
        trace_BN=torch.full_like(value_BT, token_lambda),
    )


def best_of_n_kl(n: int) -> float:
    """ln n − (n − 1)/n: upper bound on the KL of the best of n replies to one reply, nats.

    Raises GroupError for n < 1.
    Source: Beirami et al. 2024, arXiv:2401.01879: a bound, exact where no reply repeats.
    """
    if n < 1:
        raise GroupError(f"best of n: expected one reply or more, got {n}")
    return math.log(n) - (n - 1) / n


def _check_siblings(method: str, prompt_of_reply_B: Tensor, is_valid_B: Tensor) -> None:
    is_alone_B = is_valid_B & (num_siblings(prompt_of_reply_B, is_valid_B) < 2)
    if bool(is_alone_B.any()):
        b = int(is_alone_B.nonzero()[0])
        raise GroupError(
            f"{method} compares two or more replies of a prompt, found one of prompt "
            f"{prompt_of_reply_B[b].item()} (reply {b}); raise num_generations, or use ppo"
        )
