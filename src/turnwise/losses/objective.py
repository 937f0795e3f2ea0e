"""From the losses of tokens to the number that is differentiated.

    loss = (1/D) · Σ over written tokens of ( l + kl_coef·KL − entropy_coef·H )

D is fixed from the whole optimizer batch before it is split, so how the batch is cut into
micro-batches or over ranks changes neither loss nor gradient. D and the weight inside a dialogue
meet in one array, `weight_BT`: 0 where a token is not trained.
"""

from collections.abc import Callable
from typing import Literal, get_args

from torch import Tensor

from turnwise.arrays import check_same_shape
from turnwise.errors import ConfigError, EmptyStepError
from turnwise.losses.checks import check_finite, zero_unwritten
from turnwise.losses.surrogate import ClipRange, clipped_surrogate

Divisor = Literal["tokens", "dialogues", "budget", "per_dialogue_mean"]


def loss_divisor(
    num_written_B: Tensor, *, kind: Divisor, max_dialogue_tokens: int | None = None
) -> float:
    """D: what the sum over the tokens of one optimizer step is divided by.

        tokens              written tokens: every token counts alike
        dialogues           dialogues: a long dialogue counts more
        budget              dialogues × max_dialogue_tokens: the same for every step
        per_dialogue_mean   dialogues, each token weighing 1/|T_i|: every dialogue counts alike

    num_written_B: int64, tokens the policy wrote in each valid dialogue of the step; a dialogue
    without one is not counted, one without advantage is. max_dialogue_tokens: `budget` only.
    The D of several ranks add up.
    Raises EmptyStepError for D = 0, ConfigError for an unknown kind or a budget without a limit.
    """
    num_tokens = float(num_written_B.sum().item())
    num_dialogues = float((num_written_B > 0).sum().item())
    if num_tokens == 0:
        raise EmptyStepError(
            f"expected a token to learn from, found none in {num_written_B.numel()} dialogues; "
            "were all dialogues dropped or cut before the policy spoke? skip this step"
        )
    match kind:
        case "tokens":
            return num_tokens
        case "dialogues" | "per_dialogue_mean":
            return num_dialogues
        case "budget":
            if max_dialogue_tokens is None or max_dialogue_tokens < 1:
                raise ConfigError(
                    "divisor: `budget` needs max_dialogue_tokens of at least 1, "
                    f"got {max_dialogue_tokens}"
                )
            return num_dialogues * max_dialogue_tokens
    raise ConfigError(f"divisor: expected one of {get_args(Divisor)}, got {kind!r}")


def loss_weights(written_BT: Tensor, *, kind: Divisor, divisor: float) -> Tensor:
    """Weight of each token in the loss of the step: 1/D, or 1/(|T_i|·D) for per_dialogue_mean.

    written_BT: bool, True for each token to be trained (all of a dialogue or none: |T_i| is
    counted here). divisor: D of the whole step.
    Returns weight_BT, float32; 0 where not written. Rows do not depend on each other.
    """
    weight_BT = written_BT.float() / divisor
    if kind != "per_dialogue_mean":
        return weight_BT
    return weight_BT / written_BT.sum(dim=1, keepdim=True).clamp(min=1)


def entropy_weights(weight_BT: Tensor, *, entropy_coef: float) -> Tensor:
    """Weight of each token's entropy, for the backend that subtracts Σ weight·H. Returns BT."""
    return entropy_coef * weight_BT


def policy_objective(
    logp_policy_BT: Tensor,
    logp_behaviour_BT: Tensor,
    advantage_BT: Tensor,
    weight_BT: Tensor,
    *,
    clip: ClipRange,
    dual_clip: float | None,
) -> Tensor:
    """This micro-batch's share of the step's loss: Σ weight · l, a scalar to be minimised.

    l: `clipped_surrogate`. weight_BT: from `loss_weights`; where it is 0 the token was not written
    and the other arrays may hold anything, NaN included: no value and no gradient gets through.
    The shares of a step's micro-batches add up to its loss.
    Raises LogProbError for a non-finite log-probability where written.
    """
    check_same_shape(logp_policy_BT=logp_policy_BT, weight_BT=weight_BT)
    written_BT = weight_BT != 0
    check_finite(logp_policy_BT, written_BT, "logp_policy_BT")
    check_finite(logp_behaviour_BT, written_BT, "logp_behaviour_BT")
    loss_BT = clipped_surrogate(
        zero_unwritten(logp_policy_BT, written_BT),
        zero_unwritten(logp_behaviour_BT, written_BT),
        zero_unwritten(advantage_BT, written_BT),
        clip=clip,
        dual_clip=dual_clip,
    )
    return (weight_BT * loss_BT).sum()


def kl_objective(
    logp_policy_BT: Tensor,
    logp_reference_BT: Tensor,
    weight_BT: Tensor,
    *,
    kl_coef: float,
    estimator: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """This micro-batch's share of kl_coef · KL to the reference, to be added to the objective.

    estimator: `kl_k2` or `kl_k3`, of (logp_policy_BT, logp_reference_BT). weight_BT as in
    `policy_objective`.
    Raises LogProbError for a non-finite log-probability where written.
    """
    check_same_shape(logp_policy_BT=logp_policy_BT, weight_BT=weight_BT)
    written_BT = weight_BT != 0
    check_finite(logp_policy_BT, written_BT, "logp_policy_BT")
    check_finite(logp_reference_BT, written_BT, "logp_reference_BT")
    kl_BT = estimator(
        zero_unwritten(logp_policy_BT, written_BT), zero_unwritten(logp_reference_BT, written_BT)
    )
    return kl_coef * (weight_BT * kl_BT).sum()
