"""How a step's credit fared: against the task's truth, against itself, by what it gained.

Chooses what to compare; the numbers are made in `agreement`.
"""

from torch import Tensor

from turnwise.advantages import information_share
from turnwise.training.agreement import information_metrics, stability_metrics, truth_agreement
from turnwise.training.config import CreditName, RunConfig
from turnwise.training.credits import TurnGains
from turnwise.training.evidence import Evidence
from turnwise.training.gating import gate, info_advantage
from turnwise.training.methods import known_credits, token_advantages, turn_credit
from turnwise.training.metrics import turn_mean
from turnwise.training.terms import credit_weights
from turnwise.training.truth import Truth


def credit_findings(config: RunConfig, evidence: Evidence, exact: Truth | None) -> dict[str, float]:
    """Agreement with the truth where the task knows it, stability of a PRM, InfoPO's numbers."""
    found: dict[str, float] = {}
    if exact is not None:
        credit: dict[str, Tensor] = {
            name: turn_credit(evidence, config.method, name)
            for name in _told_apart(config, evidence)
        }
        if "infopo" in credit and evidence.info is not None:
            # A turn without a measured gain has no rank among those with one.
            asked_BK = evidence.info.is_eligible_BK
            credit["infopo"] = credit["infopo"].masked_fill(~asked_BK, float("nan"))
        found |= truth_agreement(credit, exact.gain_BK, exact.oracle_BK, evidence.is_turn_BK)
    prm = evidence.prm
    if prm is not None and prm.before_BT is not None:
        found |= stability_metrics(
            prm.before_BT,
            prm.token_reward_BT,
            evidence.turn_of_token_BT,
            None if exact is None else exact.oracle_BK,
        )
    return found | _of_information(config, evidence)


def _told_apart(config: RunConfig, evidence: Evidence) -> list[CreditName]:
    """The run's own credits that tell turns apart, and what its PRM and critic say."""
    known = known_credits(evidence, config.method)
    names = [name for name in known if name not in ("trajectory", "uniform", "oracle")]
    if evidence.prm is not None:
        names += [name for name in ("itpo", "itpo-norm") if name not in names]
    if evidence.critic is not None and "value" not in names:
        names.append("value")
    return names


def _of_information(config: RunConfig, evidence: Evidence) -> dict[str, float]:
    scores = evidence.info
    if scores is None:
        return {}
    gate_B = gate(evidence, config.info)
    weights = credit_weights(config.method, config.info, evidence.step)
    weight = weights.pop("infopo")
    without = config.method.model_copy(update={"credit": weights, "scaling": "none"})
    share = information_share(
        turn_mean(token_advantages(evidence, without, config.info), evidence),
        info_advantage(TurnGains(scores.gain_BK, scores.is_eligible_BK), evidence, config.info),
        gate_B,
        evidence.length_BK,
        weight=weight,
    )
    return information_metrics(
        scores, gate_B, evidence.group_B, share=share, min_std=config.info.min_info_std
    )
