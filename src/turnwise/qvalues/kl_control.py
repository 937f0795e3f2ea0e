"""How dear it is to leave π_k: β, the KL budget of a reply, and the forward direction.

The laws of the controller are heuristics of this library: arXiv:2511.21638 states no β.
"""

import torch
from torch import Tensor

from turnwise.arrays import check_same_shape
from turnwise.errors import ConfigError

NATS_PER_TOKEN = 0.02
MAX_RISE = 1.5  # of β in one update; also how far KL may stay below the budget unnoticed


def kl_budget(
    asked: float | None, *, mean_tokens: float, share: float = 1.0, cap: float = 5.0
) -> float:
    """Nats per reply that the policy may end up from π_k: min(share · base, cap).

    asked: the base; None: 0.02 nat for each of the `mean_tokens` of π_k's replies. share: what the
    outer loop makes of it: half in the first round, twice as much after a win.
    Raises ConfigError for a negative number.
    """
    base = NATS_PER_TOKEN * mean_tokens if asked is None else asked
    if min(base, share, cap) < 0:
        raise ConfigError(
            f"expected a KL budget, share and cap of 0 or more, got {base}, {share} and {cap}"
        )
    return min(base * share, cap)


def first_beta(budget: float, *, reward_std: float = 1.0) -> float:
    """β = std(R)/√(2·budget): a small tilt by R/β leaves π_k by the budget.

    budget: nats per reply. reward_std: of R over π_k's replies; 1 where R was scaled.
    Raises ConfigError unless both are above 0.
    """
    if not (budget > 0 and reward_std > 0):
        raise ConfigError(
            f"expected a KL budget and a reward spread above 0, got {budget} and {reward_std}; "
            "with a budget of 0 the policy stays what it is"
        )
    return float(reward_std / (2 * budget) ** 0.5)


def next_beta(beta: float, kl: float, budget: float, *, is_stalled: bool) -> float:
    """β for the next update.

        β·min(KL/budget, 1.5)   where KL > budget
        β/1.5                   where KL < budget/1.5 and the gain has stalled
        β                       otherwise

    kl, budget: nats per reply. is_stalled: a new check found no gain. KL starts at 0, so a
    controller that lowered β for that alone would let it collapse before anything was learnt.
    Raises ConfigError for β ≤ 0 or a budget that is not above 0.
    """
    if not (beta > 0 and budget > 0):
        raise ConfigError(f"expected beta and budget above 0, got {beta} and {budget}")
    if kl > budget:
        return beta * min(kl / budget, MAX_RISE)
    return beta / MAX_RISE if is_stalled and not is_at_budget(kl, budget) else beta


def is_at_budget(kl: float, budget: float) -> bool:
    """KL ≥ budget/1.5: where β is not lowered any more."""
    return kl >= budget / MAX_RISE


def forward_kl_advantage(
    logp_policy_BT: Tensor, logp_reference_BT: Tensor, turn_of_token_BT: Tensor, *, beta: float
) -> Tensor:
    """What to add to each token's advantage so that the policy pays β·KL(π_k ‖ π_θ).

        A_t = β·w_{<t}·(w_t − 1),   w_t = π_k/π_θ of token t,   w_{<t} = their product before it

    Rows are single replies of π_θ; nats at temperature 1. In expectation Σ_t A_t ∇log π_θ is
    −β times the gradient of the forward KL of whole replies; without w_{<t} it would be the
    gradient of `kl_k3`, in which prefixes come from π_θ instead of π_k.
    Returns BT, without gradient; 0 where not written, and everywhere where the two agree.
    Raises ConfigError for β ≤ 0.
    """
    if not beta > 0:
        raise ConfigError(f"expected beta > 0, got {beta}")
    check_same_shape(logp_policy_BT=logp_policy_BT, logp_reference_BT=logp_reference_BT)
    excess_BT = logp_reference_BT.detach() - logp_policy_BT.detach()
    log_w_BT = torch.where(turn_of_token_BT >= 0, excess_BT, 0.0)
    before_BT = log_w_BT.cumsum(dim=1) - log_w_BT
    return beta * before_BT.exp() * log_w_BT.expm1()
