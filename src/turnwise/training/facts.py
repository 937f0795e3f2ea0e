"""What records keep of each turn and group beside the credit: by name, for figures and audits."""

from collections.abc import Mapping

import torch
from torch import Tensor

from turnwise.advantages import gain_moments, group_std
from turnwise.training.config import InfoConfig
from turnwise.training.credits import TurnGains
from turnwise.training.evidence import Evidence
from turnwise.training.gating import gate, info_advantage
from turnwise.training.truth import Truth


def turn_measures(evidence: Evidence, info: InfoConfig, exact: Truth | None) -> dict[str, Tensor]:
    """Numbers of each turn by name, BK; NaN = not computed."""
    out: dict[str, Tensor] = {}
    if exact is not None:
        out |= {"truth/oracle": exact.oracle_BK, "truth/gain": exact.gain_BK}
    if evidence.critic is not None:
        out["value"] = evidence.critic.value_BK
    scores = evidence.info
    if scores is not None:
        asked_BK = scores.is_eligible_BK
        advantage_BK = info_advantage(TurnGains(scores.gain_BK, asked_BK), evidence, info)
        of_turns = {
            "gain": scores.gain_BK,
            "logp_factual": scores.logp_factual_BK,
            "logp_counterfactual": scores.logp_counterfactual_BK,
            "copied_share": scores.copied_share_BK,
            "advantage": advantage_BK,
        }
        nan = torch.tensor(torch.nan)
        out |= {f"infopo/{k}": torch.where(asked_BK, v, nan) for k, v in of_turns.items()}
    return out


def turn_notes(evidence: Evidence, b: int) -> dict[str, tuple[str, ...]]:
    """Words on each turn of dialogue b, by name."""
    if evidence.info is None:
        return {}
    return {
        "infopo/refusal": tuple(evidence.info.refusal[b]),
        "infopo/fill": tuple(evidence.info.fill[b]),
    }


def group_measures(evidence: Evidence, info: InfoConfig) -> Mapping[str, Tensor]:
    """Numbers of each dialogue's group by name, B."""
    scores = evidence.info
    if scores is None:
        return {}
    mean_B, std_B = gain_moments(scores.gain_BK, scores.is_eligible_BK, evidence.group_B)
    return {
        "std_outcome": group_std(evidence.outcome_B, evidence.group_B, evidence.is_valid_B),
        "gate": gate(evidence, info),
        "info_mean": mean_B,
        "info_std": std_B,
        "scored": scores.is_scored_B.float(),
    }
