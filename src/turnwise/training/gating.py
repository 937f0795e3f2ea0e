"""InfoPO's second term: turn gains, standardised in their group, let through where outcomes agree.

The equations live in `turnwise.advantages`; here settings choose among them.
"""

import torch
from torch import Tensor

from turnwise.advantages import (
    centre_turn_index,
    centre_turns,
    fused,
    has_siblings,
    magnitude_cap,
    nonzero_turns,
    standardise_tokens_div_len,
    standardise_turns,
    variance_gate,
)
from turnwise.errors import ConfigError
from turnwise.training.config import InfoConfig
from turnwise.training.credits import Credit, TurnGains, TurnRewards
from turnwise.training.evidence import Evidence


def with_gains(
    estimate_BT: Tensor, credit: Credit, evidence: Evidence, info: InfoConfig, *, weight: float
) -> Tensor:
    """estimate_BT + weight · gate_g · A_info on the written tokens of turns that gained something.

    estimate_BT: what the outcome says, before scaling.
    """
    info_BK = info_advantage(credit, evidence, info)
    if info.cap:
        written_BT = evidence.written_BT
        outcome_B = (estimate_BT * written_BT).sum(dim=1) / written_BT.sum(dim=1)
        info_BK = info_BK * magnitude_cap(outcome_B, info_BK, evidence.length_BK)
    return fused(
        estimate_BT, info_BK, gate(evidence, info), evidence.turn_of_token_BT, weight=weight
    )


def info_advantage(credit: Credit, evidence: Evidence, info: InfoConfig) -> Tensor:
    """A_info_BK before gate and weight; 0 where a turn is not eligible.

    Nor has a dialogue without siblings any, unless info.group_of_one is "raw".
    """
    gain_BK, valid_BK = _gains(credit, evidence, info)
    if info.group_of_one == "error":
        valid_BK = valid_BK & has_siblings(evidence.group_B, evidence.is_valid_B).unsqueeze(1)
    if info.centre == "turn_index":
        gain_BK = centre_turn_index(gain_BK, valid_BK, evidence.group_B)
    if info.normalisation == "none":
        return torch.where(valid_BK, gain_BK, 0.0)
    if info.normalisation == "centre":
        return centre_turns(gain_BK, valid_BK, evidence.group_B)
    if info.statistics == "token_div_len":
        length_BK = evidence.length_BK
        return standardise_tokens_div_len(
            gain_BK, valid_BK, length_BK, evidence.group_B, min_std=info.min_info_std
        )
    return standardise_turns(gain_BK, valid_BK, evidence.group_B, min_std=info.min_info_std)


def gate(evidence: Evidence, info: InfoConfig) -> Tensor:
    """gate_B: how much of the information term a dialogue's group lets through."""
    if info.gate == "open":
        return torch.ones_like(evidence.outcome_B)
    return variance_gate(evidence.outcome_B, evidence.group_B, temperature=info.gate_temperature)


def _gains(credit: Credit, evidence: Evidence, info: InfoConfig) -> tuple[Tensor, Tensor]:
    if isinstance(credit, TurnGains):
        valid_BK = credit.is_eligible_BK
        if info.validity == "nonzero":
            valid_BK = nonzero_turns(credit.gain_BK, valid_BK)
        return credit.gain_BK, valid_BK
    if isinstance(credit, TurnRewards):
        return credit.reward_BK, evidence.is_turn_BK
    raise ConfigError(
        "method.gated = true adds turn rewards beside the outcome; a credit that splits the "
        "outcome, or one of tokens, has no reward of its own where all outcomes are equal"
    )
