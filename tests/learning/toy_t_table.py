"""Toy T's table: cosine of each advantage with the ideal one, by steps of PRM training.

`python -m tests.learning.toy_t_table` prints it (required and measured).
"""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from tests.learning.toy_t import (
    BETA,
    Dialogues,
    G,
    K,
    Prm,
    cosine,
    dialogues,
    ideal_advantage,
    trained_prms,
)
from turnwise.advantages import (
    JudgedTurns,
    fit_turn_calibration,
    group_offset_values,
    implicit_value_advantages,
    implicit_values,
    leave_one_out,
    redistribute_direct,
    redistribute_to_go,
    same_for_all_turns,
)
from turnwise.credit import (
    implicit_turn_rewards,
    order_accuracy,
    robust_batch_scale,
    signed_turn_weights,
    turn_logits_sum,
    turn_weights,
)

SEEDS, STOPS = range(5), (0, 10, 25, 200)
JUDGED, CALIBRATION = 256 * G, 256
REQUIRED = {  # cosine after each number of PRM steps, mean over decisive turns and seeds
    "RLOO": (0.54, 0.54, 0.54, 0.54),
    "Norm same, to-go": (0.50, 0.55, 0.51, 0.46),
    "Norm signed, to-go": (0.50, 0.58, 0.55, 0.49),
    "Norm same, direct": (0.54, 0.66, 0.58, 0.42),
    "Norm signed, direct": (0.54, 0.73, 0.68, 0.47),
    "implicit value raw, λ .5": (0.44, 0.49, 0.54, 0.44),
    "calibrated, λ .5": (0.51, 0.61, 0.74, 0.88),
    "calibrated, group offset, λ .5": (0.48, 0.57, 0.69, 0.81),
    "calibrated, group offset, λ 1": (0.54, 0.57, 0.61, 0.66),
}
REQUIRED_ORDER_ACCURACY = {25: 0.75, 100: 0.90}


def turn_rewards(prm: Prm, played: Dialogues) -> Tensor:
    with torch.no_grad():
        return implicit_turn_rewards(
            prm.model.logp(played.token_BT),
            prm.reference.logp(played.token_BT),
            played.turn_of_token_BT,
            beta=BETA,
        )


def norm_advantages(reward_BK: Tensor, played: Dialogues) -> dict[str, Tensor]:
    """RLOO and the four Norm forms: `sum`, `batch_std`, η 1."""
    is_valid_B = torch.ones_like(played.outcome_B, dtype=torch.bool)
    is_turn_BK = torch.ones_like(reward_BK, dtype=torch.bool)
    centred_B = leave_one_out(played.outcome_B, played.group_B, is_valid_B)
    logit_BK = turn_logits_sum(reward_BK)
    scale = robust_batch_scale(logit_BK, is_turn_BK, is_valid_B)
    same_BK = turn_weights(logit_BK, is_turn_BK, scale=scale, temperature=1.0)
    signed_BK = signed_turn_weights(logit_BK, is_turn_BK, centred_B, scale=scale, temperature=1.0)
    return {
        "RLOO": same_for_all_turns(centred_B, is_turn_BK),
        "Norm same, to-go": redistribute_to_go(centred_B, same_BK, is_turn_BK, discount=1.0),
        "Norm signed, to-go": redistribute_to_go(centred_B, signed_BK, is_turn_BK, discount=1.0),
        "Norm same, direct": redistribute_direct(centred_B, same_BK, is_turn_BK),
        "Norm signed, direct": redistribute_direct(centred_B, signed_BK, is_turn_BK),
    }


def value_advantages(
    reward_BK: Tensor, played: Dialogues, earlier_BK: Tensor, earlier: Dialogues, bias: float
) -> dict[str, Tensor]:
    """The four implicit-value forms; `earlier` dialogues calibrate."""
    is_valid_B = torch.ones_like(played.outcome_B, dtype=torch.bool)
    is_turn_BK = torch.ones_like(reward_BK, dtype=torch.bool)
    judged = JudgedTurns.none().extended(
        earlier_BK, torch.ones_like(earlier_BK).bool(), earlier.outcome_B, earlier.outcome_B >= 0
    )
    calibrated_BK = fit_turn_calibration(judged, bias=bias).values(reward_BK, is_turn_BK)
    offset_BK = group_offset_values(
        calibrated_BK, played.outcome_B, is_turn_BK, played.group_B, is_valid_B
    )

    def advantages(value_BK: Tensor, turn_lambda: float) -> Tensor:
        return implicit_value_advantages(
            value_BK,
            played.outcome_B,
            is_turn_BK,
            is_valid_B,
            discount=1.0,
            turn_lambda=turn_lambda,
        )

    return {
        "implicit value raw, λ .5": advantages(implicit_values(reward_BK, is_turn_BK, bias), 0.5),
        "calibrated, λ .5": advantages(calibrated_BK, 0.5),
        "calibrated, group offset, λ .5": advantages(offset_BK, 0.5),
        "calibrated, group offset, λ 1": advantages(offset_BK, 1.0),
    }


@dataclass(frozen=True)
class Measured:
    """One trained PRM on fresh data."""

    cosine_of: Mapping[str, float]
    order_accuracy: float


def measured(prm: Prm, decisive: int, seed: int) -> Measured:
    generator = torch.Generator().manual_seed(500_000 + 1000 * decisive + seed)
    played = dialogues(JUDGED, decisive, generator)
    earlier = dialogues(CALIBRATION, decisive, generator)
    reward_BK, earlier_BK = turn_rewards(prm, played), turn_rewards(prm, earlier)
    advantage_of = norm_advantages(reward_BK, played) | value_advantages(
        reward_BK, played, earlier_BK, earlier, float(prm.bias.detach())
    )
    ideal_BK = ideal_advantage(played.outcome_B, decisive)
    accuracy = order_accuracy(
        reward_BK.sum(dim=1), played.outcome_B, played.group_B, played.outcome_B >= 0
    )
    assert accuracy is not None
    return Measured({name: cosine(a, ideal_BK) for name, a in advantage_of.items()}, accuracy)


@cache
def table() -> dict[int, list[list[Measured]]]:
    """By number of PRM steps: for each seed the three decisive turns."""
    stops = (*STOPS, *(stop for stop in REQUIRED_ORDER_ACCURACY if stop not in STOPS))
    out: dict[int, list[list[Measured]]] = {stop: [[] for _ in SEEDS] for stop in stops}
    for seed in SEEDS:
        for decisive in range(K):
            for stop, prm in trained_prms(decisive, seed, stops):
                out[stop][seed].append(measured(prm, decisive, seed))
    return out


def cosines(stop: int, name: str) -> list[float]:
    """For each seed, the mean over decisive turns."""
    return [statistics.mean(m.cosine_of[name] for m in turns) for turns in table()[stop]]


def order_accuracies(stop: int) -> list[float]:
    return [m.order_accuracy for turns in table()[stop] for m in turns]


def lines() -> Iterable[str]:
    yield "| advantage | " + " | ".join(f"{stop} steps" for stop in STOPS) + " |"
    yield "|---|" + "---|" * len(STOPS)
    for name, required in REQUIRED.items():
        cells = []
        for stop, aim in zip(STOPS, required, strict=True):
            found = cosines(stop, name)
            cells.append(f"{aim:.2f}: {statistics.mean(found):.2f} ± {statistics.stdev(found):.2f}")
        yield f"| {name} | " + " | ".join(cells) + " |"
    for stop, aim in REQUIRED_ORDER_ACCURACY.items():
        found = order_accuracies(stop)
        yield (
            f"\nOrder accuracy after {stop} steps, required {aim:.2f}: mean "
            f"{statistics.mean(found):.3f}, lowest of {len(found)} {min(found):.3f}"
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("\n".join(lines()))  # noqa: T201  # a script that prints what it measured
