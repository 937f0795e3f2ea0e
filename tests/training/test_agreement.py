"""Metrics of credit say what the arrays say, and leave out what a step cannot know."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import tensor

from turnwise.errors import ShapeError
from turnwise.training.agreement import information_metrics, stability_metrics, truth_agreement
from turnwise.training.evidence import InfoScores

NAN = float("nan")
IS_TURN_BK = tensor([[True, True], [True, False], [True, True]])


def test_agreement_with_the_truth_by_hand() -> None:
    # The turns have truth 0, 1, 2, 3, 4 and credit 1, 0, 2, 3, 4: ranks differ by 1 twice, so
    # ρ = 1 − 6·2/(5·24) = 0.9; one of ten pairs is in the wrong order, so τ = (9 − 1)/10 = 0.8.
    truth_BK = tensor([[0.0, 1.0], [2.0, 9.0], [3.0, 4.0]])
    credit_BK = tensor([[1.0, 0.0], [2.0, -9.0], [3.0, 4.0]])
    found = truth_agreement({"itpo": credit_BK, "infopo": -truth_BK}, truth_BK, None, IS_TURN_BK)
    assert found == {
        "truth/spearman_gain/itpo": pytest.approx(0.9),
        "truth/kendall_gain/itpo": pytest.approx(0.8),
        "truth/spearman_gain/infopo": pytest.approx(-1.0),
        "truth/kendall_gain/infopo": pytest.approx(-1.0),
    }
    other = truth_agreement({"itpo": credit_BK}, None, truth_BK, IS_TURN_BK)
    assert list(other) == ["truth/spearman_oracle/itpo", "truth/kendall_oracle/itpo"]


def test_a_turn_without_credit_is_left_out() -> None:
    truth_BK = tensor([[0.0, 1.0], [2.0, 0.0], [3.0, 4.0]])
    credit_BK = tensor([[0.0, NAN], [2.0, 0.0], [1.0, NAN]])
    # Left are truths 0, 2, 3 with credits 0, 2, 1: ρ = 1 − 6·2/(3·8) = 0.5.
    found = truth_agreement({"infopo": credit_BK}, truth_BK, None, IS_TURN_BK)
    assert found["truth/spearman_gain/infopo"] == pytest.approx(0.5)


def test_what_orders_nothing_has_no_agreement() -> None:
    truth_BK, flat_BK = tensor([[0.0, 1.0], [2.0, 0.0], [3.0, 4.0]]), torch.ones(3, 2)
    credits = {"flat": flat_BK, "good": truth_BK}
    assert list(truth_agreement(credits, truth_BK, flat_BK, IS_TURN_BK)) == [
        "truth/spearman_gain/good",
        "truth/kendall_gain/good",
    ]
    assert truth_agreement(credits, None, None, IS_TURN_BK) == {}


def test_rounding_of_an_exact_truth_orders_nothing() -> None:
    truth_BK = tensor([[1 / 6, 1 / 6 + 5e-8], [1 / 6 - 5e-8, 0.0], [1 / 6, 1 / 6]])
    assert len(torch.unique(truth_BK[IS_TURN_BK])) > 1
    assert truth_agreement({"itpo": truth_BK}, truth_BK, None, IS_TURN_BK) == {}


def test_credit_of_another_batch_is_refused() -> None:
    with pytest.raises(ShapeError, match="'credit_BK': \\(2, 2\\)"):
        truth_agreement({"itpo": torch.ones(2, 2)}, torch.ones(3, 2), None, IS_TURN_BK)


# Two dialogues: turns of 2, 1, 1 tokens around a user's token; a single turn of 2.
TURN_BT = tensor([[0, 0, -1, 1, 2], [0, 0, -1, -1, -1]])
BEFORE_BT = tensor([[1.0, 2.0, 99.0, 4.0, 5.0], [1.0, 2.0, 99.0, 99.0, 99.0]])


def test_stability_by_hand() -> None:
    # First dialogue: turns 3, 4, 5 become 4, 3, 5: ρ = 1 − 6·2/(3·8) = 0.5. The other has one turn.
    # Tokens 1, 2, 4, 5 become 2, 2, 3, 5: the tie takes ranks 1.5, 1.5, 3, 4, so
    # ρ = 4.5/√(5·4.5) = 0.948683. The second dialogue's tokens 1, 2 become 2, 1: ρ = −1.
    after_BT = tensor([[2.0, 2.0, -99.0, 3.0, 5.0], [2.0, 1.0, -99.0, 7.0, 7.0]])
    assert stability_metrics(BEFORE_BT, after_BT, TURN_BT, None) == {
        "prm/stability_turns": pytest.approx(0.5),
        "prm/stability_tokens": pytest.approx((0.9486833 - 1) / 2),
    }


def test_best_and_worst_turns_by_hand() -> None:
    # After the update turns are worth 4, 3, 5. In truth 0, 0, 1: the best is the third of three,
    # found (1, chance 1/3); the worst are the first two, the second among them (1, chance 2/3).
    after_BT = tensor([[2.0, 2.0, -99.0, 3.0, 5.0], [2.0, 1.0, -99.0, 7.0, 7.0]])
    oracle_BK = tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    found = stability_metrics(BEFORE_BT, after_BT, TURN_BT, oracle_BK)
    assert {name: value for name, value in found.items() if "turn_" in name} == {
        "prm/best_turn_agreement": 1.0,
        "prm/worst_turn_agreement": 1.0,
        "prm/best_turn_chance": pytest.approx(1 / 3),
        "prm/worst_turn_chance": pytest.approx(2 / 3),
    }


def test_rewards_that_are_all_zero_have_no_stability() -> None:
    nothing_BT = torch.zeros_like(BEFORE_BT)
    assert stability_metrics(nothing_BT, BEFORE_BT, TURN_BT, torch.zeros(2, 3)) == {}


GAIN_BK = tensor([[0.3, NAN], [NAN, NAN], [-0.1, 0.1]])
COPIED_BK = tensor([[0.5, 0.0], [0.0, 0.0], [0.25, 0.0]])
SCORES = InfoScores(
    gain_BK=GAIN_BK,
    is_eligible_BK=tensor([[True, False], [False, False], [True, True]]),
    copied_share_BK=COPIED_BK,
    logp_factual_BK=GAIN_BK,
    logp_counterfactual_BK=GAIN_BK,
    is_scored_B=tensor([True, False, True]),
    refusal=[["", "last turn"], ["gate closed", "last turn"], ["", ""]],
    fill=[["gap", ""], ["", ""], ["gap", "gap"]],
)


def of_step(
    scores: InfoScores = SCORES, share: float | None = 0.25, order: Sequence[int] = (0, 1, 2)
) -> dict[str, float]:
    index_B = tensor(order)
    gate_B, group_B = tensor([0.5, 0.2, 0.5])[index_B], tensor([0, 1, 0])[index_B]
    return information_metrics(scores, gate_B, group_B, share=share, min_std=1e-3)


def test_information_by_hand() -> None:
    assert of_step() == {
        "info/gain_mean": pytest.approx(0.1),  # (0.3 − 0.1 + 0.1) / 3
        "info/negative_frac": pytest.approx(1 / 3),
        "info/copied_share": pytest.approx(0.25),  # (0.5 + 0.25 + 0) / 3
        "info/gate_mean": pytest.approx(0.35),  # two groups: 0.5 and 0.2
        "info/groups_scored_frac": 0.5,
        "info/share": 0.25,
        "info/flat_groups": 0.0,  # the group that was not scored does not count
        "info/gain/0": pytest.approx(0.1),
        "info/gain/1": pytest.approx(0.1),
        "info/gain_count/0": 2.0,
        "info/gain_count/1": 1.0,
        "credit/infopo/refused/gate_closed": 1.0,
        "credit/infopo/refused/last_turn": 2.0,
    }


def test_a_step_without_gains_has_no_mean_gain() -> None:
    nothing = replace(SCORES, is_eligible_BK=torch.zeros_like(SCORES.is_eligible_BK))
    found = of_step(nothing, share=None)
    assert {name for name in found if name.startswith("info/")} == {
        "info/flat_groups",
        "info/gate_mean",
        "info/groups_scored_frac",
    }


def test_every_metric_is_documented() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "run-folder.md").read_text("utf-8")
    names = {
        *of_step(replace(SCORES, clamped_tokens=1)),
        *truth_agreement({"{method}": COPIED_BK}, COPIED_BK, COPIED_BK, IS_TURN_BK),
        *stability_metrics(BEFORE_BT, BEFORE_BT, TURN_BT, tensor([[0.0, 0.0, 1.0]] * 2)),
    }
    names = {re.sub(r"/\d+$", "/{k}", re.sub("/refused/.*", "/refused/{reason}", n)) for n in names}
    assert len(names) == 10 + 1 + 4 + 6
    assert sorted(name for name in names if f"`{name}`" not in page) == []


@given(order=st.permutations(range(3)))
@settings(deadline=None, max_examples=6)
def test_the_order_of_dialogues_does_not_matter(order: list[int]) -> None:
    index_B = tensor(order)
    permuted = replace(
        SCORES,
        gain_BK=GAIN_BK[index_B],
        is_eligible_BK=SCORES.is_eligible_BK[index_B],
        copied_share_BK=COPIED_BK[index_B],
        is_scored_B=SCORES.is_scored_B[index_B],
        refusal=[SCORES.refusal[b] for b in order],
    )
    assert of_step(permuted, order=order) == pytest.approx(of_step())
