"""Information gain: how much a turn's feedback changes what the policy says next.

With y_1 … y_L = a_{k+1} the tokens of the next turn, h_k everything up to and including turn k, o_k
the feedback it brought and ∅ what stands in its place,

    ℓ_i = log π(y_i | h_k, o_k, y_<i) − log π(y_i | h_k, ∅, y_<i)
    gain_k = Σ_i ℓ_i   or   (1/L) Σ_i ℓ_i   or   …

Turn k, which asked, is credited; the tokens of turn k + 1 are scored, as sampled. Both arrays of
log-probabilities stand at those tokens; elsewhere they may hold anything, NaN included. In every
function `is_eligible_BK` (bool) are the turns whose gain is asked for, never a dialogue's last, and
`is_identical_BK` (bool) those whose placeholder has the ids of the feedback itself: no branch was
scored there and the gain is exactly 0. Gains are in nats, 0 where not eligible.

What the number means (for the sum): E[Σ ℓ_i] = KL(π(·|h,o) ‖ π(·|h,∅)) ≥ 0, although a single
gain may be negative. The paper equates the expected gain with I(O_k; A_{k+1} | H_k); by Fano's
inequality, with m equally likely hidden intents and error at most δ, E[Σ_k gain_k] ≥ log m − h(δ) −
δ·log(m − 1), h the binary entropy. Caveats:

* Exactly, E_o KL(π(·|h,o) ‖ q) = I(O; A | h) + KL(π̄ ‖ q), with π̄ = E_o π(·|h,o), q = π(·|h,∅). The
  gain over-estimates the information unless q is the marginal π̄; the surplus measures how odd the
  placeholder looks. `gain_mean` is a rate per token and not this sum.
* `gain_marginal` brackets I if the other bodies are independent draws given h: without the real
  body its expectation is ≥ I, with it ≤ I and ≤ log(M + 1). Siblings share the hidden facts, so
  their replies vary with the question only; a task that redraws the facts gives better bodies.
* A next turn that only quotes the feedback has a large gain.

Source: Kong et al. 2026, "InfoPO: Information-Driven Policy Optimization for User-Centric Agents",
arXiv:2603.00656. `M` counts alternative feedbacks.
"""

import torch
from torch import Tensor

from turnwise.arrays import check_same_shape, spread_to_tokens, turn_length, turn_sum
from turnwise.errors import LogProbError, ShapeError

MAX_LOG_RATIO = 20.0  # exp(20) is 5e8: a token that unlikely decides the whole turn


def next_turn_log_ratio(
    logp_factual_BT: Tensor,
    logp_counterfactual_BT: Tensor,
    turn_of_token_BT: Tensor,
    is_eligible_BK: Tensor,
    is_identical_BK: Tensor,
) -> Tensor:
    """ℓ_BT at the tokens of the turns after eligible ones, 0 elsewhere: what gains are made of.

    Raises LogProbError, with dialogue and turn, for a log-probability that is not finite where an
    eligible turn is scored; ShapeError if shapes differ or the turn after an eligible one is empty.
    """
    check_same_shape(logp_factual_BT=logp_factual_BT, logp_counterfactual_BT=logp_counterfactual_BT)
    ratio_BT = logp_factual_BT - logp_counterfactual_BT
    return _scored(ratio_BT, turn_of_token_BT, is_eligible_BK, is_identical_BK, "log-ratio")


def next_turn_sum(x_BT: Tensor, turn_of_token_BT: Tensor, num_turns: int) -> Tensor:
    """Sum over the tokens of turn k + 1, in column k: what turn k is credited with.

    Of ℓ it is the gain Σ_i ℓ_i: unbiased for the divergence of whole turns, grows with their
    length. num_turns: K. Returns BK; 0 in the last column and for an empty turn.
    """
    return _one_turn_earlier(turn_sum(x_BT, turn_of_token_BT, num_turns))


def per_next_token(gain_BK: Tensor, turn_of_token_BT: Tensor) -> Tensor:
    """Gain per scored token: gain_k / L_{k+1}. Returns BK; 0 where there is no next turn."""
    length_BK = _one_turn_earlier(turn_length(turn_of_token_BT, gain_BK.shape[1]))
    return gain_BK / length_BK.clamp(min=1)


def gain_mean(ratio_BT: Tensor, turn_of_token_BT: Tensor, num_turns: int) -> Tensor:
    """gain_k = (1/L) Σ_i ℓ_i: a rate per token, of any sign, never clipped.

    ratio_BT: ℓ, from `next_turn_log_ratio`. num_turns: K. Returns gain_BK, nats per token.
    Source: arXiv:2603.00656, eq. of r^info.
    """
    sum_BK = next_turn_sum(ratio_BT, turn_of_token_BT, num_turns)
    return per_next_token(sum_BK, turn_of_token_BT)


def gain_k3(ratio_BT: Tensor, turn_of_token_BT: Tensor, num_turns: int) -> Tensor:
    """gain_k = (1/L) Σ_i (e^(−ℓ_i) − 1 + ℓ_i): never negative.

    Inside the exponential ℓ is clamped to [−20, 20]; `clamped_tokens` counts where that acts.
    Arrays and result as in `gain_mean`.
    Source: the estimator is J. Schulman, "Approximating KL divergence", 2020.
    """
    # expm1 keeps the value from turning into rounding noise where both contexts agree.
    k3_BT = (-ratio_BT.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)).expm1() + ratio_BT
    return gain_mean(k3_BT, turn_of_token_BT, num_turns)


def clamped_tokens(ratio_BT: Tensor) -> int:
    """Number of scored tokens whose |ℓ| is above 20, where `gain_k3` clamps."""
    return int((ratio_BT.abs() > MAX_LOG_RATIO).sum().item())


def gain_full_kl(
    kl_BT: Tensor, turn_of_token_BT: Tensor, is_eligible_BK: Tensor, is_identical_BK: Tensor
) -> Tensor:
    """gain_k = (1/L) Σ_i Σ_v p_i(v)·(log p_i(v) − log q_i(v)): never negative, lowest variance.

    kl_BT: nats, the divergence of the next-token distribution after the real feedback from the one
    after the placeholder, at the token it predicts. Errors as in `next_turn_log_ratio`.
    """
    kept_BT = _scored(kl_BT, turn_of_token_BT, is_eligible_BK, is_identical_BK, "divergence")
    return gain_mean(kept_BT, turn_of_token_BT, is_eligible_BK.shape[1])


def gain_marginal(
    logp_factual_BK: Tensor,
    logp_alternative_BKM: Tensor,
    is_alternative_BKM: Tensor,
    is_eligible_BK: Tensor,
    *,
    with_real_body: bool = False,
) -> Tensor:
    """gain_k = log p − log q, where q averages over M other feedbacks in place of the real one.

        log p = Σ_i log π(y_i | real),   log q = log (1/M Σ_m exp Σ_i log π(y_i | o^(m)))

    logp_factual_BK: nats, summed over the tokens of turn k + 1 (`next_turn_sum`).
    logp_alternative_BKM: the same sums after each other feedback; may hold anything where
    is_alternative_BKM is False. with_real_body: the real feedback is one of the averaged, M + 1 in
    all; bounds the gain by log(M + 1). Returns gain_BK, nats per turn; `per_next_token` makes a
    rate of it.
    Raises LogProbError, with dialogue and turn, for a sum that is not finite at an eligible turn,
    or an eligible turn without an alternative; ShapeError if shapes differ.
    """
    check_same_shape(logp_factual_BK=logp_factual_BK, is_eligible_BK=is_eligible_BK)
    check_same_shape(
        logp_alternative_BKM=logp_alternative_BKM, is_alternative_BKM=is_alternative_BKM
    )
    used_BKM = is_alternative_BKM & is_eligible_BK.unsqueeze(2)
    bad_BKM = used_BKM & ~torch.isfinite(logp_alternative_BKM)
    bad_BK = bad_BKM.any(dim=2) | (is_eligible_BK & ~torch.isfinite(logp_factual_BK))
    _refuse(bad_BK, "expected finite log-probabilities of the next turn after every feedback")
    _refuse(is_eligible_BK & ~used_BKM.any(dim=2), "expected another feedback to compare with")
    if with_real_body:
        logp_alternative_BKM = torch.cat([logp_alternative_BKM, logp_factual_BK.unsqueeze(2)], 2)
        used_BKM = torch.cat([used_BKM, is_eligible_BK.unsqueeze(2)], 2)
    entered_BKM = torch.where(used_BKM, logp_alternative_BKM, -torch.inf)
    number_BK = used_BKM.sum(dim=2).clamp(min=1).to(logp_factual_BK.dtype)
    logp_mixture_BK = entered_BKM.logsumexp(dim=2) - number_BK.log()
    return torch.where(is_eligible_BK, logp_factual_BK - logp_mixture_BK, 0.0)


def _scored(
    x_BT: Tensor,
    turn_of_token_BT: Tensor,
    is_eligible_BK: Tensor,
    is_identical_BK: Tensor,
    name: str,
) -> Tensor:
    """x_BT at the tokens of the turns after measured ones, checked to be finite; 0 elsewhere."""
    check_same_shape(x_BT=x_BT, turn_of_token_BT=turn_of_token_BT)
    check_same_shape(is_eligible_BK=is_eligible_BK, is_identical_BK=is_identical_BK)
    _check_next_turn(turn_of_token_BT, is_eligible_BK)
    is_measured_BK = is_eligible_BK & ~is_identical_BK
    is_after_BK = torch.nn.functional.pad(is_measured_BK[:, :-1], (1, 0))
    is_scored_BT = spread_to_tokens(is_after_BK, turn_of_token_BT)
    bad_BT = is_scored_BT & ~torch.isfinite(x_BT)
    if bool(bad_BT.any()):
        bad_BK = next_turn_sum(bad_BT.long(), turn_of_token_BT, is_eligible_BK.shape[1]) > 0
        _refuse(bad_BK, f"expected a finite {name} at every token of the next turn")
    return torch.where(is_scored_BT, x_BT, 0.0)


def _check_next_turn(turn_of_token_BT: Tensor, is_eligible_BK: Tensor) -> None:
    length_BK = _one_turn_earlier(turn_length(turn_of_token_BT, is_eligible_BK.shape[1]))
    for b, k in (is_eligible_BK & (length_BK == 0)).nonzero()[:1].tolist():
        raise ShapeError(
            f"dialogue {b}, turn {k}: expected a token in the turn after an eligible one, found "
            "none; a last turn and one before an empty turn are not eligible"
        )


def _refuse(bad_BK: Tensor, expectation: str) -> None:
    for b, k in bad_BK.nonzero()[:1].tolist():
        raise LogProbError(
            f"dialogue {b}, turn {k}: {expectation}, found none or one that is NaN or infinite; "
            "look at the model that scored it (a failed score never becomes a gain of 0)"
        )


def _one_turn_earlier(x_BK: Tensor) -> Tensor:
    return torch.nn.functional.pad(x_BK[:, 1:], (0, 1))
