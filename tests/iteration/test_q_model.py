"""What outputs of a model mean as Q and V, and where they learn."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.iteration.logged import heard, logged, said, settings
from tests.rollouts.toy import CHAT, TOKENIZER
from turnwise.backends import AdapterSpec, Loss, Reader, Tokenizer
from turnwise.backends.local import LocalBackend
from turnwise.backends.protocol import StepStats
from turnwise.backends.tiny import tiny_model
from turnwise.conversation import PolicyFacts, Trajectory
from turnwise.errors import ConfigError
from turnwise.iteration.config import QConfig
from turnwise.iteration.episodes import build_episodes
from turnwise.iteration.q_choices import HeadName, q_network
from turnwise.iteration.q_heads import (
    Lesson,
    QNetwork,
    ScalarQ,
    VerdictQ,
    constant_start,
    marked,
    places,
    question_of,
    support_of,
)
from turnwise.iteration.q_values import FittedQ, fitted_map, read_scores
from turnwise.losses import histogram_mean
from turnwise.qvalues.calibration import IDENTITY, LinearMap
from turnwise.tokens import TurnBatch, turn_batch

WORDS = {"verdict_question": "go", "verdict_yes": "yes", "verdict_no": "no"}
LOSSES = ("bce", "mse", "hl-gauss")


def q_config(**changes: object) -> QConfig:
    return settings({"q": {**WORDS, "lora_rank": 4, **changes}}).q


def rows_of(*more: str) -> list[Trajectory]:
    """A conversation of three turns, one of two of which the first was cut, one of a turn."""
    cut = said("go yes", policy=PolicyFacts("v1", finish="length"))
    conversations = (
        logged(
            heard("hello"),
            said("yes"),
            heard("go"),
            said("no go"),
            heard("hello"),
            said("bye"),
            name="three",
        ),
        logged(heard("hello"), cut, heard("go"), said("no"), name="cut"),
        logged(heard("go"), said("bye yes"), name="one"),
    )
    found, _ = build_episodes(conversations, CHAT, settings(), round=0, version="v1")
    return [episode.trajectory for episode in found]


def local() -> LocalBackend:
    model = tiny_model(TOKENIZER, hidden_size=64, num_layers=2, seed=3)
    return LocalBackend(model, TOKENIZER, max_rows=3)


def network_of(head: str, config: QConfig | None = None) -> QNetwork:
    kind: HeadName = "scalar" if head == "scalar" else "verdict"
    return q_network(local(), config or q_config(), kind, "q", y_N=torch.tensor([0.0, 0.6]))


def lesson_of(rows: list[Trajectory], num_heads: int) -> Lesson:
    """Targets of all steps: 1, .5, 0 by turn."""
    at = marked(rows)
    target_BK = torch.tensor([1.0, 0.5, 0.0]).expand(len(rows), -1)
    weight_BE = torch.ones(len(rows), num_heads)
    return Lesson(at, target_BK, at.v_at_BK >= 0, weight_BE)


def train(network: QNetwork, steps: int = 4) -> None:
    lesson = lesson_of(rows_of(), network.num_heads)
    for _ in range(steps):
        network.backward(lesson, lesson.num_steps)
        network.learner.optim_step(0.02)


def one_turn(row: Trajectory, k: int) -> Trajectory:
    """The row as if the conversation had ended with turn k, which alone is marked."""
    stop = row.turns[k].stop
    said = row.conversation[: row.message_of_turn[k] + 1]
    return replace(row, conversation=said, token_ids=row.token_ids[:stop], turns=(row.turns[k],))


@pytest.mark.parametrize("head", ["scalar", "verdict"])
def test_one_row_for_all_turns_says_what_one_row_for_each_turn_says(head: str) -> None:
    network = network_of(head)
    train(network)
    q, rows = FittedQ(network, 0.0, 1.0), rows_of()
    whole = q.values(rows)
    assert len({round(x, 4) for x in whole.q_BK[0].tolist()}) > 1
    for b, row in enumerate(rows):
        for k in range(len(row.turns)):
            alone = q.values([one_turn(row, k)])
            assert_close(alone.q_EBK[:, 0, 0], whole.q_EBK[:, b, k], atol=1e-5, rtol=0)
            assert_close(alone.v_EBK[:, 0, 0], whole.v_EBK[:, b, k], atol=1e-5, rtol=0)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_new_scalar_head_says_the_mean_target_everywhere(loss: str) -> None:
    network = network_of("scalar", config=q_config(loss=loss))
    values = FittedQ(network, 0.0, 1.0).values(rows_of())
    expected = 0.3
    assert_close(values.q_BK[0], torch.full((3,), expected), atol=2e-3, rtol=0)
    assert_close(values.v_BK[:, 0], torch.full((3,), expected), atol=2e-3, rtol=0)
    assert torch.equal(values.spread_BK, torch.zeros_like(values.spread_BK))


def test_a_reply_without_its_end_token_is_worth_the_lowest_return() -> None:
    network = network_of("scalar")
    train(network)
    values = FittedQ(network, -1.0, 3.0).values(rows_of())
    missing = torch.tensor([[0, 0, 0], [1, 0, 1], [0, 1, 1]], dtype=torch.bool)
    assert bool((values.q_EBK[:, missing] == -1).all())
    assert bool((values.q_EBK[:, ~missing] > -1).all())
    assert bool((values.v_BK[1, :2] > -1).all()) and values.v_BK[1, 2] == -1


def test_prefix_values_end_in_q_and_stand_at_written_tokens_alone() -> None:
    network, rows = network_of("scalar"), rows_of()
    train(network)
    values, batch = FittedQ(network, 0.0, 1.0).values(rows), turn_batch(rows)
    assert values.prefix_EBT is not None
    assert torch.equal(values.prefix_EBT[0] != 0, batch.written_BT)
    for b, row in enumerate(rows):
        for k, turn in enumerate(row.turns):
            if turn.stop_reason == "stop":
                assert_close(values.prefix_EBT[:, b, turn.stop - 1], values.q_EBK[:, b, k])
    assert FittedQ(network_of("verdict"), 0.0, 1.0).values(rows).prefix_EBT is None


def test_maps_act_on_scores_and_ranges_on_values() -> None:
    """Score logit(.3), a 2, b 1: σ(2·logit(.3) + 1), in [−1, 3]."""
    network = network_of("scalar")
    q = FittedQ(network, -1.0, 3.0, LinearMap(2.0, 1.0), LinearMap(1.0, 0.0))
    score = torch.tensor(0.3).logit()
    values = q.values(rows_of())
    assert_close(values.q_BK[0, 0], -1 + 4 * (2 * score + 1).sigmoid(), atol=1e-5, rtol=0)
    assert_close(values.v_BK[0, 0], torch.tensor(-1 + 4 * 0.3), atol=1e-5, rtol=0)


def test_reading_many_rows_is_reading_each() -> None:
    network, rows = network_of("scalar"), rows_of() * 40
    train(network)
    found = read_scores(network, rows)
    for again in range(1, 40):
        some = slice(3 * again, 3 * again + 3)
        expected = found.q_EBK[:, :3].nan_to_num(9.0)
        assert_close(found.q_EBK[:, some].nan_to_num(9.0), expected, atol=1e-5, rtol=0)
    assert found.prefix_EBT is None


class Notebook:
    """A reader whose outputs are its parameters: it keeps the gradient of each."""

    def __init__(self, output_BTO: Tensor) -> None:
        self.output_BTO = output_BTO.requires_grad_()

    def read(self, batch: TurnBatch) -> Tensor:
        return self.output_BTO.detach()

    def forward_backward(self, batch: TurnBatch, loss: Loss) -> Mapping[str, float]:
        total = loss(self.output_BTO)
        torch.autograd.backward(total)
        return {"loss": float(total.detach())}

    def optim_step(self, learning_rate: float) -> StepStats:
        raise AssertionError("nothing is stepped here")

    def save(self, path: Path) -> None: ...
    def load(self, path: Path) -> None: ...
    def start_from(self, path: Path) -> None: ...


def notebook(config: QConfig, rows: list[Trajectory]) -> tuple[Notebook, ScalarQ]:
    start = constant_start(config, torch.tensor([0.3]))
    output_BTO = torch.tensor(start).expand(*turn_batch(rows).token_BT.shape, -1).clone()
    reader = Notebook(output_BTO)
    of_protocol: Reader = reader
    return reader, ScalarQ(of_protocol, config.num_heads, config, support_of(config))


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_zero_off_the_scored_positions(loss: str) -> None:
    rows, config = rows_of(), q_config(loss=loss, num_heads=2, end_weight=0.9)
    reader, network = notebook(config, rows)
    lesson = lesson_of(rows, 2)
    lesson = replace(lesson, is_trained_BK=lesson.is_trained_BK & torch.tensor([1, 1, 0]).bool())
    network.backward(lesson, lesson.num_steps)
    assert reader.output_BTO.grad is not None
    grad_BTE2Z = reader.output_BTO.grad.unflatten(2, (2, 2, -1))
    moves_BT2 = (grad_BTE2Z != 0).any(dim=4).all(dim=2)
    expected_BT2 = torch.zeros_like(moves_BT2)
    for b, row in enumerate(rows):
        for turn in row.turns[:2]:
            expected_BT2[b, turn.start - 1, 1] = True
            if turn.stop_reason == "stop":
                expected_BT2[b, turn.start : turn.stop, 0] = True
    assert torch.equal(moves_BT2, expected_BT2)


def test_bce_of_one_step_by_hand() -> None:
    """One head, Q and V at logit .3, target 1, a reply of "bye yes" and end token, w .9:
    −ln .3 for each of Q (weights .05, .05, .9) and V; gradients σ(z) − y = −.7 times weight."""
    rows = rows_of()[2:]
    reader, network = notebook(q_config(num_heads=1), rows)
    loss = network.backward(lesson_of(rows, 1), 1.0)
    assert loss == pytest.approx(2 * -torch.tensor(0.3).log().item(), rel=1e-5)
    turn = rows[0].turns[0]
    assert turn.num_tokens == 3
    assert reader.output_BTO.grad is not None
    of_q_T, of_v_T = reader.output_BTO.grad[0].unbind(dim=1)
    assert_close(of_q_T[turn.start : turn.stop], -0.7 * torch.tensor([0.05, 0.05, 0.9]))
    assert_close(of_v_T[turn.start - 1], torch.tensor(-0.7))


def test_heads_learn_from_their_own_draw_of_customers() -> None:
    rows = rows_of()
    reader, network = notebook(q_config(num_heads=2), rows)
    weight_BE = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    network.backward(replace(lesson_of(rows, 2), weight_BE=weight_BE), 6.0)
    assert reader.output_BTO.grad is not None
    size_BE = reader.output_BTO.grad.unflatten(2, (2, 2)).abs().sum(dim=(1, 3))
    assert torch.equal(size_BE == 0, weight_BE == 0)


def test_each_decision_step_weighs_one_for_q_and_one_for_v() -> None:
    rows = rows_of()
    at = places(lesson_of(rows, 1), end_weight=0.9)
    for kind, count in ((0, 5), (1, 6)):  # the cut reply has no place for Q
        assert at.weight_N[at.kind_N == kind].sum() == pytest.approx(count)


@pytest.mark.parametrize("head", ["scalar", "verdict"])
def test_splitting_a_lesson_changes_no_gradient(head: str) -> None:
    found = []
    for split in ([[0, 1, 2]], [[2], [1, 0]]):
        network = network_of(head)
        train(network, steps=2)
        lesson = lesson_of(rows_of(), network.num_heads)
        parts = [lesson.part(torch.tensor(part)) for part in split]
        loss = sum(network.backward(part, lesson.num_steps) for part in parts)
        found.append((loss, network.learner.optim_step(0.01).grad_norm))
    assert found[1] == pytest.approx(found[0], rel=1e-4)


def test_a_verdict_is_the_models_answer_to_the_question_with_and_without_branches() -> None:
    on, rows = local(), rows_of()
    learner = on.create("q", AdapterSpec(rank=4))
    verdict = question_of(q_config(), cast(Tokenizer, TOKENIZER))
    packed = VerdictQ(learner, verdict, has_branches=True)
    train(packed)
    values = FittedQ(packed, 0.0, 1.0).values(rows)
    apart = FittedQ(VerdictQ(learner, verdict, has_branches=False), 0.0, 1.0).values(rows)
    assert_close(apart.q_EBK, values.q_EBK, atol=1e-5, rtol=0)
    assert_close(apart.v_EBK, values.v_EBK, atol=1e-5, rtol=0)
    row, turn = rows[0], rows[0].turns[1]
    for stop, found in ((turn.stop, values.q_EBK), (turn.start, values.v_EBK)):
        ids = [*row.token_ids[:stop], *verdict.question_ids]
        logp = [_answer(learner.logp, ids, word) for word in (verdict.yes_id, verdict.no_id)]
        assert found[0, 0, 1].item() == pytest.approx(_sigmoid(logp[0] - logp[1]), abs=1e-5)


def _answer(logp_of: Callable[[TurnBatch], Tensor], ids: list[int], word: int) -> float:
    token_BT = torch.tensor([[*ids, word]])
    turn_BT = torch.full_like(token_BT, -1)
    turn_BT[0, -1] = 0
    batch = TurnBatch(token_BT, turn_BT, torch.zeros(token_BT.shape), torch.tensor([len(ids) + 1]))
    return logp_of(batch)[0, -1].item()


def _sigmoid(x: float) -> float:
    return torch.tensor(x).sigmoid().item()


def test_a_verdict_learns_its_targets() -> None:
    network = network_of("verdict")
    train(network, steps=40)
    values = FittedQ(network, 0.0, 1.0).values(rows_of())
    first, _, last = values.q_BK[0].tolist()
    assert first > 0.7 and last < 0.3


def test_verdicts_are_single_tokens() -> None:
    tokenizer = cast(Tokenizer, TOKENIZER)
    with pytest.raises(ConfigError, match=r"q.verdict_yes = 'yes go': expected one token, found 2"):
        question_of(q_config(verdict_yes="yes go"), tokenizer)
    with pytest.raises(ConfigError, match="begin with the same token"):
        question_of(q_config(verdict_yes="no"), tokenizer)


def test_a_histogram_starts_at_its_mean() -> None:
    config = q_config(loss="hl-gauss", num_heads=1)
    support = support_of(config)
    assert support is not None
    start_2Z = torch.tensor(constant_start(config, torch.tensor([0.0, 0.5]))).reshape(2, -1)
    assert_close(histogram_mean(start_2Z, support), torch.full((2,), 0.25), atol=2e-3, rtol=0)


def test_few_steps_or_one_target_make_no_map() -> None:
    score_EBK, known_BK = torch.linspace(-1, 1, 30).reshape(1, 30, 1), torch.ones(30, 1).bool()
    y_BK = (torch.arange(30) % 2).float()[:, None]
    assert fitted_map(score_EBK, y_BK, known_BK, "log") != IDENTITY
    assert fitted_map(score_EBK, torch.ones(30, 1), known_BK, "log") == IDENTITY
    assert (
        fitted_map(score_EBK, y_BK, known_BK & (torch.arange(30) < 9)[:, None], "log") == IDENTITY
    )
