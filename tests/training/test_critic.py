"""The critic at work: what it says before it learns, what it learns from, and whom it asks."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor, tensor
from torch.testing import assert_close

from tests.rollouts.toy import TOKENIZER, backend, ids
from turnwise.arrays import turn_length
from turnwise.backends import AdapterSpec, Backend, Capabilities, Learner
from turnwise.backends.local import LocalBackend
from turnwise.backends.tiny import tiny_model
from turnwise.errors import CheckpointError, ConfigError
from turnwise.records import open_run_folder
from turnwise.tokens import TurnBatch
from turnwise.training.checkpoints import load_checkpoint, save_checkpoint
from turnwise.training.config import CriticConfig
from turnwise.training.critic import ValueCritic, build_critic, first_tokens, foresight
from turnwise.training.evidence import CriticScores
from turnwise.training.learners import Learners
from turnwise.training.prm import PassLimits, whole_groups
from turnwise.training.value_models import Lesson

LIMITS = PassLimits(5, 400)
VERDICT = {"head": "generative", "verdict_question": "go", "verdict_yes": "yes", "verdict_no": "no"}


def local() -> LocalBackend:
    made = tiny_model(TOKENIZER, hidden_size=64, num_layers=2, seed=3)
    return LocalBackend(made, TOKENIZER, max_rows=6)


def critic_on(
    on: Backend, changes: Mapping[str, object] = {}, limits: PassLimits = LIMITS, seed: int = 0
) -> ValueCritic:
    config = CriticConfig.model_validate({"learning_rate": 0.02, "mini_batch": 8, **changes})
    return build_critic(on, config, AdapterSpec(rank=4), limits, seed)


def dialogues(count: int = 12, seed: int = 0) -> tuple[TurnBatch, Tensor, Tensor]:
    """Groups of four. The user's reply before turn 2 tells the outcome: "yes" 1, "no" 0.

    Tokens: <user> hello <assistant> a end <user> reply <assistant> b b end; the last row of each
    group ends after its first turn, with outcome ½.
    """
    generator = torch.Generator().manual_seed(seed)
    user, assistant, end = ids("<|user|>")[0], ids("<|assistant|>")[0], ids("<|end|>")[0]
    yes, no = ids("yes no")
    is_good_B = torch.rand(count, generator=generator) < 0.5
    is_short_B = torch.arange(count) % 4 == 3
    words_BT = torch.randint(7, 12, (count, 11), generator=generator)
    words_BT[:, [0, 5]], words_BT[:, [2, 7]], words_BT[:, [4, 10]] = user, assistant, end
    words_BT[:, 6] = torch.where(is_good_B, yes, no)
    turn_of_token_BT = torch.full_like(words_BT, -1)
    turn_of_token_BT[:, 3:5], turn_of_token_BT[:, 8:11] = 0, 1
    words_BT[is_short_B, 5:], turn_of_token_BT[is_short_B, 5:] = 0, -1
    length_B = torch.where(is_short_B, 5, 11)
    batch = TurnBatch(words_BT, turn_of_token_BT, torch.zeros(words_BT.shape), length_B)
    outcome_B = torch.where(is_short_B, 0.5, is_good_B.float())
    return batch, outcome_B, torch.arange(count) // 4


def updated(
    critic: ValueCritic, step: int = 1, count: int = 12, seed: int | None = None
) -> tuple[CriticScores, Mapping[str, float]]:
    """A step on Monte Carlo returns: λ = 1, so that A + V is the outcome."""
    batch, outcome_B, group_B = dialogues(count, step if seed is None else seed)

    def target_of(scores: CriticScores) -> Tensor:
        asked_BN = scores.value_BK if scores.value_BT is None else scores.value_BT
        return outcome_B[:, None].expand_as(asked_BN)

    return critic.update(batch, group_B, target_of, step)


KINDS: dict[str, Mapping[str, object]] = {
    "turn": {},
    "token": {"level": "token"},
    "generative": VERDICT,
}


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_values_are_those_from_before_the_update(changes: Mapping[str, object]) -> None:
    critic = critic_on(backend(), changes)
    updated(critic)
    batch, *_ = dialogues(seed=2)
    before = critic.score(batch)
    scores, _ = updated(critic, step=2)
    assert torch.equal(scores.value_BK, before.value_BK)
    after_BK = critic.score(batch).value_BK
    assert not torch.isclose(after_BK, before.value_BK)[:, 0].any()


def test_a_turns_value_is_the_one_before_its_first_token() -> None:
    on = backend()
    by_token, by_turn = critic_on(on, {"level": "token"}), critic_on(on)
    for critic in (by_token, by_turn):
        updated(critic)
    batch, *_ = dialogues(seed=2)
    token = by_token.score(batch)
    assert token.value_BT is not None
    assert torch.equal(token.value_BK[:, 0], token.value_BT[:, 3])
    assert torch.equal(token.value_BK[:, 1], token.value_BT[:, 8])
    assert torch.equal(token.value_BT != 0, batch.written_BT)
    turn = by_turn.score(batch)
    assert turn.value_BT is None
    # The table's state is the last token alone: the same at every turn's beginning.
    first, is_long_B = turn.value_BK[0, 0], batch.length_B == 11
    assert torch.equal(turn.value_BK[:, 0], first.expand(12))
    assert torch.equal(turn.value_BK[:, 1], torch.where(is_long_B, first, 0.0))


def test_a_turn_split_by_a_tool_has_one_first_token() -> None:
    turn_BT = tensor([[-1, 0, 0, -1, 0, 1, -1, 3], [-1, -1, 2, 2, -1, -1, -1, -1]])
    batch = TurnBatch(turn_BT, turn_BT, torch.zeros(2, 8), tensor([8, 4]))
    expected = tensor([[-1, 0, -1, -1, -1, 1, -1, 3], [-1, -1, 2, -1, -1, -1, -1, -1]])
    assert torch.equal(first_tokens(batch).turn_of_token_BT, expected)


@pytest.mark.parametrize(("level", "places"), [("turn", 21), ("token", 51)])
def test_what_is_reported_is_what_was_measured(level: str, places: int) -> None:
    """Before anything is learnt V = ¼ everywhere: no clip, no foresight."""
    critic = critic_on(backend(), {"level": level, "initial_value": 0.25, "mini_batch": 99})
    scores, metrics = updated(critic)
    batch, outcome_B, _ = dialogues(seed=1)
    assert torch.equal(scores.value_BK, 0.25 * (turn_length(batch.turn_of_token_BT) > 0))
    asked_BT = batch.written_BT if level == "token" else first_tokens(batch).written_BT
    target_N = outcome_B[:, None].expand_as(asked_BT)[asked_BT]
    assert len(target_N) == places
    loss = 0.5 * (target_N - 0.25).square().mean()
    assert metrics["critic/loss"] == pytest.approx(float(loss), rel=1e-5)
    assert metrics["critic/value_mean"] == 0.25
    assert metrics["critic/explained_variance"] == pytest.approx(0.0, abs=1e-6)
    assert metrics["critic/clip_frac"] == 0.0
    assert metrics["critic/grad_norm"] > 0


def test_explained_variance_by_hand() -> None:
    """Targets (0, 2), values (0, 1): misses (0, 1) have variance ¼, targets 1: 1 − ¼ = ¾."""
    batch = TurnBatch(tensor([[7, 8, 9]]), tensor([[-1, 0, 0]]), torch.zeros(1, 3), tensor([3]))
    lesson = Lesson(batch, tensor([[9.0, 0.0, 2.0]]), tensor([[7.0, 0.0, 1.0]]))
    assert foresight(lesson) == {"critic/value_mean": 0.5, "critic/explained_variance": 0.75}
    alike = replace(lesson, target_BT=torch.ones(1, 3))
    assert foresight(alike) == {"critic/value_mean": 0.5}  # nothing to explain


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_how_a_step_is_split_changes_no_number(changes: Mapping[str, object]) -> None:
    found = []
    for limits in (PassLimits(100, 10**6), PassLimits(2, 10**6), PassLimits(8, 40)):
        critic = critic_on(backend(), changes, limits)
        updated(critic)
        metrics = updated(critic, step=2)[1]
        found.append((critic.score(dialogues(seed=3)[0]).value_BK, metrics))
    for value_BK, metrics in found[1:]:
        assert_close(value_BK, found[0][0], atol=1e-5, rtol=1e-4)
        assert metrics == pytest.approx(found[0][1], rel=1e-3, abs=1e-5)


def test_groups_stay_together_and_every_pass_sees_all() -> None:
    on = backend()
    updated(critic_on(on, {"passes": 3}))
    assert on.passes == {("critic", "score"): 12, ("critic", "train"): 36}
    assert [len(rows) for rows in whole_groups(dialogues()[2], 8, (0, 1, 0, 4))] == [8, 4]


def test_a_value_is_held_near_where_it_was() -> None:
    """With a large step the second pass finds values beyond the clip."""
    wild = updated(critic_on(backend(), {"passes": 2, "learning_rate": 1.0, "mini_batch": 99}))[1]
    assert 0.4 < wild["critic/clip_frac"] <= 0.5  # half of the passes: the first has no clip
    calm = updated(critic_on(backend(), {"passes": 2, "learning_rate": 1e-4}))[1]
    assert calm["critic/clip_frac"] == 0.0


def test_the_first_steps_may_be_the_critics_alone() -> None:
    warm = critic_on(backend(), {"warm_up_steps": 2})
    assert [warm.is_warming(step) for step in (1, 2, 3)] == [True, True, False]
    assert not critic_on(backend()).is_warming(1)


@pytest.mark.parametrize("changes", [{"initial_value": 0.4}, VERDICT], ids=["scalar", "generative"])
def test_a_critic_learns_what_a_reply_told(changes: Mapping[str, object]) -> None:
    critic = critic_on(local(), {"learning_rate": 0.003, **changes})
    explained = [
        updated(critic, step=step, count=24)[1]["critic/explained_variance"]
        for step in range(1, 19)
    ]
    # Half of the values stand before the reply, where nothing can be known: ½ is all there is.
    assert explained[0] < 0.1
    assert sum(explained[-3:]) / 3 > 0.3
    batch, outcome_B, _ = dialogues(24, seed=99)
    value_BK, is_long_B = critic.score(batch).value_BK, batch.length_B == 11
    # The reply is news: before it nobody can know.
    error_BK = (value_BK - outcome_B[:, None]).abs()[is_long_B]
    assert error_BK[:, 1].mean() < 0.2
    assert error_BK[:, 0].mean() > 0.4


def test_a_verdict_is_the_models_own_answer() -> None:
    """p(yes) / (p(yes) + p(no)) after the dialogue so far and the question, scored as one text."""
    critic = critic_on(local(), VERDICT)
    updated(critic)
    batch, *_ = dialogues(seed=2)
    value_BK = critic.score(batch).value_BK
    learner = cast(Learner, critic.learner)
    for b, k, start in ((0, 0, 3), (0, 1, 8), (3, 0, 3)):
        context = [*batch.token_BT[b, :start].tolist(), *ids("go")]
        logp = []
        for word in ids("yes no"):
            text = tensor([[*context, word]])
            turn = torch.full_like(text, -1)
            turn[0, -1] = 0
            row = TurnBatch(text, turn, torch.zeros(text.shape), tensor([text.shape[1]]))
            logp.append(learner.logp(row)[0, -1].exp())
        assert_close(value_BK[b, k], logp[0] / (logp[0] + logp[1]), atol=1e-5, rtol=1e-5)
    assert not value_BK[3, 1]  # no turn


@pytest.mark.parametrize("make", [backend, local], ids=["fake", "local"])
def test_verdicts_in_branches_are_those_of_rows_of_their_own(make: Callable[[], Backend]) -> None:
    found = []
    for has_branches in (True, False):
        on = make()
        on.capabilities = replace(on.capabilities, branches=has_branches, value_head=False)
        critic = critic_on(on, {**VERDICT, "head": "auto"})
        metrics = [updated(critic, step=step)[1] for step in (1, 2)]
        found.append((critic.score(dialogues(seed=5)[0]).value_BK, metrics))
    assert_close(found[0][0], found[1][0], atol=1e-5, rtol=1e-4)
    for packed, apart in zip(found[0][1], found[1][1], strict=True):
        assert packed == pytest.approx(apart, rel=1e-3, abs=1e-5)


def test_questions_share_one_pass_with_their_dialogue() -> None:
    on = local()
    critic_on(on, VERDICT).score(dialogues()[0])
    assert on.passes == {("critic", "score"): 12}


def test_a_target_that_no_probability_reaches_counts_as_the_nearest() -> None:
    batch, _, group_B = dialogues()

    def taught(target: float) -> Tensor:
        critic = critic_on(backend(), VERDICT)
        critic.update(batch, group_B, lambda _: torch.full((12, 2), target), 1)
        return critic.score(batch).value_BK

    assert torch.equal(taught(7.0), taught(1.0))
    assert not torch.equal(taught(0.9), taught(1.0))


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("make", [backend, local], ids=["fake", "local"])
def test_a_resumed_critic_goes_on_with_the_same_numbers(
    changes: Mapping[str, object], make: Callable[[], Backend], tmp_path: Path
) -> None:
    def started(seed: int) -> Learners:
        on = make()
        policy = on.create("policy", AdapterSpec(rank=4))
        critic = critic_on(on, changes, seed=seed)
        return Learners(policy, on.reference(), None, policy.publish(), critic)

    first, again, folder = started(0), started(0), open_run_folder(tmp_path / "run")
    assert first.critic is not None and again.critic is not None
    updated(first.critic, step=1)
    save_checkpoint(folder, 1, first)
    expected = updated(first.critic, step=2)
    updated(again.critic, step=7)
    load_checkpoint(folder, 1, again)
    found = updated(again.critic, step=2)
    assert torch.equal(found[0].value_BK, expected[0].value_BK)
    assert found[1] == expected[1]
    value_BK = [
        of.critic.score(dialogues(seed=9)[0]).value_BK for of in (first, again) if of.critic
    ]
    assert torch.equal(value_BK[0], value_BK[1])


def test_a_checkpoint_without_a_critic_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    on, folder = backend(), open_run_folder(tmp_path / "run")
    policy = on.create("policy", AdapterSpec())
    plain = Learners(policy, on.reference(), None, policy.publish())
    save_checkpoint(folder, 1, plain)
    batch = dialogues()[0]
    policy.forward_backward(batch, lambda logp_BT: -logp_BT.sum())
    policy.optim_step(0.1)
    moved = policy.logp(batch)
    with pytest.raises(CheckpointError, match="no critic but this run's method needs one"):
        load_checkpoint(folder, 1, replace(plain, critic=critic_on(on)))
    assert torch.equal(policy.logp(batch), moved)


def test_settings_that_cannot_work_are_refused() -> None:
    bare = backend()
    bare.capabilities = Capabilities(value_head=False)
    with pytest.raises(ConfigError, match=r"critic.head = \"scalar\" needs a backend with value"):
        critic_on(bare, {"head": "scalar"})
    with pytest.raises(ConfigError, match=r"critic.level = \"token\" needs critic.head"):
        critic_on(bare, {"level": "token"})
    with pytest.raises(ConfigError, match=r"critic.level = \"token\" needs critic.head"):
        critic_on(backend(), {**VERDICT, "level": "token"})
    with pytest.raises(ConfigError, match="begin with the same token"):
        critic_on(backend(), {**VERDICT, "verdict_no": "yes no"})
    for key in ("verdict_question", "verdict_yes", "verdict_no"):
        with pytest.raises(ConfigError, match=rf"critic.{key} = ' ' gives no token"):
            critic_on(backend(), {**VERDICT, key: " "})
