"""One pass for InfoPO: every dialogue as it was played, and its next turns without the feedback.

The pass gives the policy's own log-probabilities of what was played, which the update takes as
behaviour, and beside them those of the counterfactual branches.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from turnwise.backends.logits import check_finite
from turnwise.backends.protocol import BranchScorer, Capabilities, Learner
from turnwise.conversation import Trajectory
from turnwise.credit import (
    clamped_tokens,
    gain_full_kl,
    gain_k3,
    gain_marginal,
    gain_mean,
    next_turn_log_ratio,
    next_turn_sum,
    per_next_token,
)
from turnwise.errors import ConfigError
from turnwise.tokens import (
    Branch,
    ChatFormat,
    Counterfactuals,
    Packed,
    TurnBatch,
    counterfactuals,
    pack,
    separate,
    with_markup,
)
from turnwise.training.config import InfoConfig
from turnwise.training.evidence import Evidence, InfoScores, group_index
from turnwise.training.gating import gate

_OF_LOG_RATIOS = {"mean": gain_mean, "sum": next_turn_sum, "k3": gain_k3}
_OWN_ROW = 1  # tokens of a row: a dialogue has its own, and a pass takes rows of similar length
_SHARED_ROW = 4_096  # tokens of a row that siblings share: a dense mask costs its square


def is_worth_scoring(evidence: Evidence, info: InfoConfig, *, weight: float) -> Tensor:
    """Dialogues whose group is scored, bool B.

    A group is left out where its outcomes differ so much that the gate closes: its advantages would
    move by less than info.skip standard deviations. Every info.probe_every steps all are scored,
    so that plots see them.
    """
    if evidence.step % info.probe_every == 0:
        return torch.ones_like(evidence.is_valid_B)
    return weight * gate(evidence, info) >= info.skip


def score_information(
    policy: Learner,
    trajectories: Sequence[Trajectory],
    batch: TurnBatch,
    is_scored_B: Tensor,
    chat: ChatFormat,
    info: InfoConfig,
    *,
    temperature: float,
    capabilities: Capabilities,
    min_group_turns: int = 2,
) -> tuple[TurnBatch, InfoScores]:
    """The batch with the policy's own log-probabilities as behaviour, and the gains of its turns.

    One pass without gradient over the dialogues (rows of `batch`) and their branches; without the
    capability `branches` a row for every context.
    min_group_turns: groups with fewer candidate turns are not scored.
    Raises LogProbError naming dialogue and turn for a log-probability that is not finite;
    ConfigError if the backend cannot give what the settings ask for.
    """
    check_capabilities(info, capabilities)
    found = counterfactuals(
        trajectories,
        placeholder_ids=chat.encode(info.placeholder),
        fill=info.fill,
        chat=chat,
        is_scored_B=is_scored_B,
        min_group_turns=min_group_turns,
        score_markup=info.score_markup,
    )
    trunks = with_markup(batch, trajectories, chat) if info.score_markup else batch
    branches = found.branches
    packed = (
        packed_rows(trunks, branches, group_index(trajectories))
        if capabilities.branches
        else separate(trunks, branches)
    )
    logp_RS = policy.logp(packed.batch, temperature=temperature)
    turn_BT, K = trunks.turn_of_token_BT, found.is_eligible_BK.shape[1]
    gain_BK, clamped = _gains(policy, packed, logp_RS, found, turn_BT, info, temperature)
    factual_BT, counterfactual_BT = packed.factual(logp_RS), packed.counterfactual(logp_RS)
    behaviour_BT = torch.where(batch.written_BT, factual_BT, 0.0)
    check_finite(behaviour_BT, "policy")
    scores = InfoScores(
        gain_BK=gain_BK,
        is_eligible_BK=found.is_eligible_BK,
        copied_share_BK=found.copied_share_BK,
        logp_factual_BK=next_turn_sum(factual_BT, turn_BT, K),
        logp_counterfactual_BK=next_turn_sum(counterfactual_BT, turn_BT, K),
        is_scored_B=is_scored_B,
        refusal=found.refusal,
        fill=found.fill_used,
        clamped_tokens=clamped,
    )
    return replace(batch, logp_behaviour_BT=behaviour_BT), scores


def packed_rows(trunks: TurnBatch, branches: Sequence[Branch], group_B: Tensor) -> Packed:
    """Trunks and branches as rows of trees.

    Where the opening is more than half of the dialogues, tools and rules before a few turns, it is
    read once for all siblings of a group; rows of many siblings cost attention otherwise.
    """
    opening_B = trunks.written_BT.int().argmax(dim=1)
    if 2 * int(opening_B.sum()) > int(trunks.length_B.sum()):
        return pack(trunks, branches, max_tokens=_SHARED_ROW, group_B=group_B)
    return pack(trunks, branches, max_tokens=_OWN_ROW)


def check_capabilities(info: InfoConfig, capabilities: Capabilities) -> None:
    """Raises ConfigError for settings that a backend without branches cannot give."""
    if capabilities.branches:
        return
    if info.fill == "gap":
        raise ConfigError(
            'info.fill = "gap" leaves a hole in the positions, which this backend does not take; '
            'use info.fill = "compact"'
        )
    if info.score == "full_kl":
        raise ConfigError(
            'info.score = "full_kl" reads whole distributions, which this backend does not give; '
            'use info.score = "k3" or "mean"'
        )


def _gains(
    policy: Learner,
    packed: Packed,
    logp_RS: Tensor,
    found: Counterfactuals,
    turn_BT: Tensor,
    info: InfoConfig,
    temperature: float,
) -> tuple[Tensor, int | None]:
    """gain_BK by info.fill and info.score, and of score k3 how many tokens were clamped."""
    factual_BT, K = packed.factual(logp_RS), found.is_eligible_BK.shape[1]
    if info.fill == "marginal":
        others = found.sums(packed.of_branches(logp_RS))
        sum_BK = next_turn_sum(factual_BT, turn_BT, K)
        gain_BK = gain_marginal(sum_BK, *others, found.is_eligible_BK)
        return per_next_token(gain_BK, turn_BT) if info.score == "mean" else gain_BK, None
    eligible = (found.is_eligible_BK, found.is_identical_BK)
    if info.score == "full_kl":
        scorer = cast(BranchScorer, policy)  # capability `branches`
        kl_N = scorer.divergence(packed.batch, *packed.pairs(), temperature=temperature)
        return gain_full_kl(packed.at_targets(kl_N), turn_BT, *eligible), None
    counterfactual_BT = packed.counterfactual(logp_RS)
    ratio_BT = next_turn_log_ratio(factual_BT, counterfactual_BT, turn_BT, *eligible)
    gain_BK = _OF_LOG_RATIOS[info.score](ratio_BT, turn_BT, K)
    return gain_BK, clamped_tokens(ratio_BT) if info.score == "k3" else None
