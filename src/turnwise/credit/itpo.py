"""Turn rewards of an implicit process reward model, and the weights of `itpo-norm`.

    itpo        R_k = Σ of the token rewards r_t in turn k
    itpo-norm   R_k = w_k·y,   w = softmax over the dialogue's turns of u_k/(s·η)

Here are r, u, s and w; what becomes of R is the business of the advantages. Source of all
equations unless a function says otherwise: Wang et al. 2026, "Implicit Turn-Wise Policy
Optimization for Proactive User-LLM Interaction", arXiv:2603.23550.
"""

import torch
from torch import Tensor

from turnwise.arrays import check_same_shape, turn_sum
from turnwise.credit.ranges import check_positive, check_share
from turnwise.errors import LogProbError

MAD_TO_STD = 1.4826  # a normal's standard deviation over its median absolute deviation
SCALE_FLOOR = 0.05  # so that an untrained model's noise is not blown up
RETURN_FLOOR = 1e-6  # added by the published code


def implicit_token_rewards(
    logp_prm_BT: Tensor, logp_reference_BT: Tensor, turn_of_token_BT: Tensor, *, beta: float
) -> Tensor:
    """How much more likely the reward model finds each token than the reference does.

        r_t = β·m_t·(log π_φ(a_t|h_t) − log π_ref(a_t|h_t))

    Log-probabilities in nats; where the turn is -1 they do not matter. User tokens carry no reward
    because the user's factors are equal in both models and cancel.
    Returns reward_BT in outcome logits, 0 where the policy did not write.
    Raises ConfigError unless beta > 0; LogProbError, with dialogue and position, for a difference
    that is not finite where the policy wrote; ShapeError if the arrays differ in shape.
    """
    ratio_BT = _log_ratio(logp_prm_BT, logp_reference_BT, turn_of_token_BT, beta)
    _check_finite(ratio_BT, turn_of_token_BT)
    return beta * torch.where(turn_of_token_BT >= 0, ratio_BT, 0.0)


def implicit_turn_rewards(
    logp_prm_BT: Tensor,
    logp_reference_BT: Tensor,
    turn_of_token_BT: Tensor,
    *,
    beta: float,
    num_turns: int | None = None,
) -> Tensor:
    """Reward of each turn: the sum of its tokens' implicit rewards.

        R_k = Σ_{t in turn k} r_t

    A sum and not a mean, because it is the difference of a soft value after and before the turn.
    num_turns: K; by default the largest turn index + 1. Returns turn_reward_BK, 0 for no turn.
    Raises what `implicit_token_rewards` raises.
    """
    ratio_BT = _log_ratio(logp_prm_BT, logp_reference_BT, turn_of_token_BT, beta)
    ratio_BK = turn_sum(ratio_BT, turn_of_token_BT, num_turns)
    if not bool(torch.isfinite(ratio_BK).all()):
        _check_finite(ratio_BT, turn_of_token_BT)
    return beta * ratio_BK


def _log_ratio(
    logp_prm_BT: Tensor, logp_reference_BT: Tensor, turn_of_token_BT: Tensor, beta: float
) -> Tensor:
    check_positive("beta", beta)
    check_same_shape(
        logp_prm_BT=logp_prm_BT,
        logp_reference_BT=logp_reference_BT,
        turn_of_token_BT=turn_of_token_BT,
    )
    return logp_prm_BT - logp_reference_BT


def _check_finite(ratio_BT: Tensor, turn_of_token_BT: Tensor) -> None:
    is_bad_BT = (turn_of_token_BT >= 0) & ~torch.isfinite(ratio_BT)
    for b, t in is_bad_BT.nonzero()[:1].tolist():
        raise LogProbError(
            f"dialogue {b}, position {t}: expected finite log-probabilities where the policy "
            f"wrote, found a log-ratio of {ratio_BT[b, t].item()} between reward model and "
            "reference; look at the model that scored it"
        )


def turn_logits_sum(turn_reward_BK: Tensor) -> Tensor:
    """u_k = Σ_{t in turn k} r_t: the turn's reward itself."""
    return turn_reward_BK


def turn_logits_sum_over_length_power(
    turn_reward_BK: Tensor, length_BK: Tensor, *, power: float
) -> Tensor:
    """u_k = R_k / c_k^α, between the sum (α = 0) and the mean over the turn's tokens (α = 1).

    Noise of a sum grows like √c, while a mean lets a greeting count like an answer.
    length_BK: written tokens c. Returns logit_BK, 0 where there is no token.
    Raises ConfigError unless power is in [0, 1].
    """
    check_share("power", power)
    return turn_reward_BK / length_BK.clamp(min=1).to(turn_reward_BK.dtype).pow(power)


def turn_logits_mean_times_global_length(turn_reward_BK: Tensor, length_BK: Tensor) -> Tensor:
    """u_k = (R_k / c_k)·c̄, with c̄ the mean length over all turns of the whole batch.

    length_BK: written tokens c; 0 where there is no turn. Returns logit_BK, 0 there.
    Source: the published code of ITPO; every dialogue's weights depend on the batch through c̄.
    """
    length_BK = length_BK.to(turn_reward_BK.dtype)
    mean_length = length_BK.sum() / (length_BK > 0).sum().clamp(min=1)
    return turn_reward_BK / length_BK.clamp(min=1) * mean_length


def robust_batch_scale(logit_BK: Tensor, is_turn_BK: Tensor, is_valid_B: Tensor) -> Tensor:
    """Spread of the turn logits within dialogues, one number for the whole batch.

        d_ik = u_ik − mean_k u_ik  (K_i ≥ 2);  clipped at ±3·1.4826·median |d|;
        s = max(√(Σ d² / Σ (K_i − 1)), 0.05)

    No clip where the median is 0. Dialogues that are not valid or have one turn take no part.
    Returns a scalar; 1 if no dialogue takes part. Law: a constant added to a dialogue's logits
    changes nothing.
    Source: ours; the median keeps one outlier from flattening all weights.
    """
    num_turns_B = is_turn_BK.sum(dim=1)
    counted_BK = is_turn_BK & (is_valid_B & (num_turns_B >= 2)).unsqueeze(1)
    if not bool(counted_BK.any()):
        return logit_BK.new_ones(())
    kept_BK = torch.where(counted_BK, logit_BK, 0.0)
    centre_B1 = kept_BK.sum(dim=1, keepdim=True) / num_turns_B.clamp(min=1).unsqueeze(1)
    deviation_N = (kept_BK - centre_B1)[counted_BK]
    limit = 3 * MAD_TO_STD * deviation_N.abs().quantile(0.5)
    limit = torch.where(limit > 0, limit, torch.inf)
    freedom = counted_BK.sum() - counted_BK.any(dim=1).sum()
    return (deviation_N.clamp(-limit, limit).square().sum() / freedom).sqrt().clamp(min=SCALE_FLOOR)


def max_return_normalised(
    token_reward_BT: Tensor, turn_of_token_BT: Tensor, shard_of_dialogue_B: Tensor
) -> Tensor:
    """Token rewards over the largest return of their shard of rows.

        r_t / (Z + 1e-6),   Z = max over the shard's written tokens of |Σ_{l≥t} r_l|

    shard_of_dialogue_B: int64, which worker held the row. Returns BT, 0 where not written.
    Source: the published code of ITPO. β cancels, one outlier flattens all weights, and the result
    depends on how rows were dealt to workers: for comparison only.
    """
    written_BT = turn_of_token_BT >= 0
    kept_BT = torch.where(written_BT, token_reward_BT, 0.0)
    suffix_BT = kept_BT.flip(1).cumsum(1).flip(1)
    largest_B = torch.where(written_BT, suffix_BT.abs(), 0.0).amax(dim=1)
    shards, index_B = torch.unique(shard_of_dialogue_B, return_inverse=True)
    largest_S = largest_B.new_zeros(len(shards)).scatter_reduce(0, index_B, largest_B, "amax")
    return kept_BT / (largest_S[index_B] + RETURN_FLOOR).unsqueeze(1)


def turn_weights(
    logit_BK: Tensor, is_turn_BK: Tensor, *, scale: float | Tensor, temperature: float
) -> Tensor:
    """Share of each turn in its dialogue's outcome.

        w_k = softmax over real turns of u_k / (s·η)

    scale: s > 0, from `robust_batch_scale` or 1. temperature: η > 0.
    Returns weight_BK, 0 where there is no turn; every dialogue with a turn sums to one, a single
    turn has exactly one.
    Raises ConfigError unless temperature > 0.
    Source: arXiv:2603.23550; the scale s is ours.
    """
    check_positive("temperature", temperature)
    scaled_BK = torch.where(is_turn_BK, logit_BK / (scale * temperature), -torch.inf)
    # A dialogue without a turn would be a softmax over nothing: NaN that spreads through gradients.
    has_turn_B1 = is_turn_BK.any(dim=1, keepdim=True)
    return scaled_BK.where(has_turn_B1, 0.0).softmax(dim=1) * is_turn_BK


def signed_turn_weights(
    logit_BK: Tensor,
    is_turn_BK: Tensor,
    centred_outcome_B: Tensor,
    *,
    scale: float | Tensor,
    temperature: float,
) -> Tensor:
    """Turn weights that blame the worst turn: softmax(−u/(s·η)) where the dialogue did badly.

    centred_outcome_B: outcome minus its baseline; its sign decides, 0 counts as good.
    Returns weight_BK with the laws of `turn_weights`.
    Raises ConfigError unless temperature > 0.
    Source: ours. These weights follow the reward model's ranking whatever the outcome was, so an
    untrained model drives the policy into a corner: use them under trust (`mix_with_uniform`).
    """
    sign_B1 = torch.where(centred_outcome_B < 0, -1.0, 1.0).to(logit_BK.dtype).unsqueeze(1)
    return turn_weights(sign_B1 * logit_BK, is_turn_BK, scale=scale, temperature=temperature)


def mix_with_uniform(weight_BK: Tensor, is_turn_BK: Tensor, *, trust: float) -> Tensor:
    """Weights as far as their model is trusted, equal shares for the rest.

        w ← g·w + (1 − g)/K_i

    trust: g in [0, 1], see `turnwise.credit.trust`. Returns weight_BK; rows sum to what they did
    if that was one.
    Raises ConfigError unless trust is in [0, 1].
    """
    check_share("trust", trust)
    num_turns_B1 = is_turn_BK.sum(dim=1, keepdim=True).clamp(min=1)
    return trust * weight_BK + (1 - trust) * is_turn_BK / num_turns_B1
