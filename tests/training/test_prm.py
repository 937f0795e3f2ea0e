"""The reward model at work: what it has seen when it speaks, and how far it is believed."""

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, tensor
from torch.testing import assert_close

from tests.rollouts.toy import backend
from tests.training.small import Recording, judged, learners, settings
from turnwise.arrays import turn_sum
from turnwise.backends import AdapterSpec
from turnwise.credit import order_accuracy
from turnwise.training.config import RunConfig
from turnwise.training.evidence import PrmScores
from turnwise.training.prm import Bias, ImplicitPrm, Judged, PassLimits

Changes = dict[str, object]

PREQUENTIAL: Changes = {"prm.scores": "prequential"}
NO_REPLAY: Changes = {"prm.replay": 0}


def prm_of(config: RunConfig) -> ImplicitPrm:
    prm = learners(config).prm
    assert prm is not None
    return prm


def updated(
    changes: Mapping[str, object] = {}, data: Judged | None = None, step: int = 1
) -> tuple[ImplicitPrm, PrmScores, Mapping[str, float]]:
    config = settings(changes)
    prm = prm_of(config)
    scores, metrics = prm.update(data or judged(config), step)
    return prm, scores, metrics


def mini_batches(config: RunConfig, data: Judged, step: int = 1) -> list[list[int]]:
    return [rows.tolist() for rows in prm_of(config)._mini_batches(data, step, 0)]


def with_outcomes(data: Judged, rows: list[int]) -> Judged:
    """The other outcome for these dialogues."""
    outcome_B = data.outcome_B.clone()
    outcome_B[rows] = 1 - outcome_B[rows]
    return replace(data, outcome_B=outcome_B)


def test_prequential_scores_know_no_label_of_their_own_mini_batch() -> None:
    config = settings(PREQUENTIAL | NO_REPLAY | {"prm.bias": "none"})
    data = judged(config)
    expected = updated(PREQUENTIAL | NO_REPLAY | {"prm.bias": "none"}, data)[1].turn_sum_BK
    batches = mini_batches(config, data)
    assert len(batches) == 2
    for number, rows in enumerate(batches):
        changed = with_outcomes(data, rows)
        found = updated(PREQUENTIAL | NO_REPLAY | {"prm.bias": "none"}, changed)[1].turn_sum_BK
        before = [row for earlier in batches[: number + 1] for row in earlier]
        after = [row for later in batches[number + 1 :] for row in later]
        assert torch.equal(found[before], expected[before])
        # What came later was scored by a model that has learnt from the changed labels.
        assert not after or not torch.equal(found[after], expected[after])


def test_before_the_first_step_a_reward_model_is_the_reference() -> None:
    config = settings(PREQUENTIAL)
    data = judged(config)
    _, scores, _ = updated(PREQUENTIAL, data)
    first, *_ = mini_batches(config, data)
    assert not scores.token_reward_BT[first].any()
    assert scores.token_reward_BT.any()


def test_post_scores_are_those_of_the_weights_after_the_step() -> None:
    prm, scores, metrics = updated({"prm.scores": "post"})
    again = prm.score(judged(settings()))
    assert_close(scores.token_reward_BT, again.token_reward_BT)
    assert scores.token_reward_BT[0].any()
    # Values stay prequential, whatever rewards are.
    assert_close(scores.turn_sum_BK, updated(PREQUENTIAL)[1].turn_sum_BK)
    assert metrics["prm/bce_after"] < metrics["prm/bce_before"]


def test_prequential_scores_come_before_any_replay() -> None:
    with_replay = updated(PREQUENTIAL | {"prm.replay": 3, "prm.replay_steps": 7})[1]
    without = updated(PREQUENTIAL | NO_REPLAY)[1]
    assert torch.equal(with_replay.token_reward_BT, without.token_reward_BT)


def passes_of(changes: Mapping[str, object], steps: int = 1) -> tuple[int, int]:
    """Dialogues the reward model was trained on and scored."""
    config, on = settings(changes), backend()
    prm = learners(config, on).prm
    assert prm is not None
    for step in range(1, steps + 1):
        prm.update(judged(config, step), step)
    return on.passes["prm", "train"], on.passes["prm", "score"]


def test_replay_costs_what_it_says() -> None:
    assert passes_of(NO_REPLAY) == (16, 16)
    assert passes_of(NO_REPLAY | PREQUENTIAL) == (16, 0)
    assert passes_of(NO_REPLAY | {"prm.passes": 2}) == (32, 16)
    # Not given: two passes' worth of steps of a mini-batch each.
    assert passes_of({"prm.replay": 4}) == (16 + 2 * 16, 16)
    assert passes_of({"prm.replay": 4, "prm.replay_steps": 3}) == (16 + 3 * 8, 16)
    assert passes_of({"prm.replay": 4, "prm.replay_steps": 0}) == (16, 16)


def test_replay_keeps_the_newest_iterations() -> None:
    config = settings({"prm.replay": 2})
    prm, played = prm_of(config), [judged(config, step) for step in (1, 2, 3)]
    for step, data in enumerate(played, start=1):
        prm.update(data, step)
    assert prm.replay == played[1:]


def test_a_reward_model_that_learns_orders_siblings_it_has_not_seen() -> None:
    config = settings({"prm.replay": 4})
    prm = prm_of(config)
    found = [prm.update(judged(config, step), step)[1] for step in range(1, 13)]
    late = [metrics["prm/order_accuracy"] for metrics in found[6:]]
    assert sum(late) / len(late) > 0.8
    assert found[-1]["prm/bce_before"] < found[-1]["prm/bce_base_rate"]


def test_trust_is_earned_before_it_is_used() -> None:
    config = settings()
    prm, gates, accuracies = prm_of(config), [], []
    for step in range(1, 8):
        data = judged(config, step)
        scores, metrics = prm.update(data, step)
        assert metrics["prm/trust"] == scores.gate
        gates.append(scores.gate)
        accuracies.append(metrics["prm/order_accuracy"])
    assert gates[0] == 0.0  # nothing was foreseen yet
    running = accuracies[0]
    for gate, accuracy in zip(gates[1:], accuracies[1:], strict=True):
        assert gate == pytest.approx(min(max((running - 0.55) / 0.10, 0.0), 1.0))
        running = 0.9 * running + 0.1 * accuracy
    assert gates[-1] > 0


def test_trust_can_be_switched_off() -> None:
    assert updated({"prm.trust": False})[1].gate == 1.0


def test_the_bias_starts_at_the_first_base_rate_and_only_once() -> None:
    config = settings({"prm.bias_learning_rate": 1e-9})
    prm, first = prm_of(config), judged(config)
    mean = float(first.outcome_B.mean())
    _, metrics = prm.update(first, 1)
    assert metrics["prm/bias"] == pytest.approx(math.log(mean / (1 - mean)))
    _, metrics = prm.update(with_outcomes(first, list(range(16))), 2)
    assert metrics["prm/bias"] == pytest.approx(math.log(mean / (1 - mean)), abs=1e-6)


def test_without_a_bias_a_dialogue_starts_at_even_odds() -> None:
    prm, scores, metrics = updated({"prm.bias": "none", **PREQUENTIAL})
    assert (prm.bias.value, metrics["prm/bias"]) == (0.0, 0.0)
    assert not scores.bias_B.any()


def test_a_bias_steps_as_adam_does() -> None:
    bias, parameter = Bias(), torch.nn.Parameter(torch.zeros(()))
    adam = torch.optim.Adam([parameter], lr=0.01)
    for gradient in (0.3, -0.2, 0.05, 0.4):
        bias.step(gradient, 0.01)
        parameter.grad = tensor(gradient)
        adam.step()
        assert bias.value == pytest.approx(float(parameter.detach()), rel=1e-5)


def test_a_learned_bias_goes_where_the_outcomes_are() -> None:
    config = settings({"prm.learning_rate": 1e-9, "prm.bias_learning_rate": 0.05})
    prm = prm_of(config)
    data = judged(config)
    prm.update(replace(data, outcome_B=torch.full((16,), 0.5)), 1)
    for step in range(2, 40):
        prm.update(replace(data, outcome_B=torch.full((16,), 0.8)), step)
    assert prm.bias.value == pytest.approx(math.log(0.8 / 0.2), abs=0.2)


@pytest.mark.parametrize("max_rows", [1, 3, 100])
def test_how_a_step_is_split_changes_nothing(max_rows: int) -> None:
    def first_gradient(limits: PassLimits) -> Tensor:
        config = settings(NO_REPLAY)
        learner = Recording(backend(), "prm", AdapterSpec())
        ImplicitPrm(learner, config.prm, config.seed, limits).update(judged(config), 1)
        return learner.gradients[0]

    whole_VV = first_gradient(PassLimits(16, 10**6))
    assert whole_VV.any()
    assert_close(first_gradient(PassLimits(max_rows, 60)), whole_VV, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("mini_batch", "sizes"), [(4, [4] * 4), (8, [8, 8]), (11, [8, 8]), (3, [4] * 4), (99, [16])]
)
def test_a_shuffled_step_holds_whole_groups(mini_batch: int, sizes: list[int]) -> None:
    config = settings({"prm.mini_batch": mini_batch})
    data = judged(config)
    batches = mini_batches(config, data)
    assert [len(rows) for rows in batches] == sizes
    assert sorted(sum(batches, [])) == list(range(16))
    held = [set(data.group_B[rows].tolist()) for rows in batches]
    assert sum(len(groups) for groups in held) == 4  # no group in two steps


def test_the_order_of_groups_is_keyed_by_seed_and_step() -> None:
    config = settings({"prm.mini_batch": 4})
    data = judged(config)
    orders = [mini_batches(config, data, step) for step in range(1, 9)]
    assert len({str(order) for order in orders}) > 1
    assert mini_batches(config, data, 1) == orders[0]
    plain = settings({"prm.mini_batch": 6, "prm.shuffle": False})
    rows = list(range(16))
    assert mini_batches(plain, data) == [rows[:6], rows[6:12], rows[12:]]


def test_what_is_reported_is_what_was_measured() -> None:
    config = settings(PREQUENTIAL | NO_REPLAY)
    data = judged(config)
    _, scores, metrics = updated(PREQUENTIAL | NO_REPLAY, data)
    z_B = scores.token_reward_BT.sum(dim=1) + scores.bias_B
    everyone_B = torch.ones(16, dtype=torch.bool)
    expected = order_accuracy(z_B, data.outcome_B, data.group_B, everyone_B)
    assert metrics["prm/order_accuracy"] == expected
    mean = float(data.outcome_B.mean())
    entropy = -mean * math.log(mean) - (1 - mean) * math.log(1 - mean)
    assert metrics["prm/bce_base_rate"] == pytest.approx(entropy, rel=1e-5)
    reward_BK = turn_sum(scores.token_reward_BT, data.batch.turn_of_token_BT)
    has_second = data.batch.turn_of_token_BT.amax(dim=1) >= 1
    drift = float(reward_BK[has_second, 1].mean())
    assert metrics["prm/turn_drift/1"] == pytest.approx(drift, abs=1e-6)


def test_siblings_that_ended_alike_say_nothing_of_the_order() -> None:
    data = judged(settings())
    alike = replace(data, outcome_B=torch.full((16,), 0.5))
    prm, _, metrics = updated(data=alike)
    assert "prm/order_accuracy" not in metrics
    assert "prm/sign_accuracy" not in metrics  # y = ½ has no side
    assert prm.trust.accuracy is None


def test_history_holds_what_was_said_before_the_labels() -> None:
    prm, scores, _ = updated(PREQUENTIAL)
    assert len(scores.history.outcome_N) == 0  # of earlier iterations only
    assert_close(prm.history.outcome_N, judged(settings()).outcome_B.double())
    # Before turn 1 nothing was said; before turn 2, what turn 1 earned.
    assert not prm.history.before_NK[:, 0].any()
    has_second = prm.history.is_turn_NK[:, 1]
    assert_close(prm.history.before_NK[has_second, 1], scores.turn_sum_BK[has_second, 0].double())
