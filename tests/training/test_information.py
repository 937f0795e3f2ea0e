"""One pass for InfoPO: every score and fill, with and without branches, and who is left out."""

from dataclasses import replace
from functools import cache
from typing import cast, get_args

import pytest
import torch
from torch import Tensor, tensor
from torch.testing import assert_close

from tests.rollouts.toy import backend, stage
from tests.training import asking
from tests.training.asking import dialogue
from tests.training.small import dialogues, learners, settings, stepped
from tests.training.test_gating import group
from turnwise.advantages import variance_gate
from turnwise.backends import AdapterSpec
from turnwise.backends.fake import FakeLearner
from turnwise.backends.local import LocalBackend
from turnwise.backends.protocol import Capabilities, Learner, Tokenizer
from turnwise.backends.tiny import tiny_model
from turnwise.cli.assemble import Assembly, learners_of
from turnwise.conversation import Trajectory, Turn
from turnwise.errors import ConfigError
from turnwise.tokens import TurnBatch, turn_batch
from turnwise.training.config import InfoConfig
from turnwise.training.evidence import InfoScores, outcomes
from turnwise.training.information import is_worth_scoring, packed_rows, score_information
from turnwise.training.inspect import training_records
from turnwise.training.learners import Learners

SCORES = get_args(InfoConfig.model_fields["score"].annotation)
FILLS = get_args(InfoConfig.model_fields["fill"].annotation)
BRANCHES, ALONE = Capabilities(branches=True), Capabilities(branches=False)
GROUP_B = torch.arange(4).repeat_interleave(4)
INFOPO: dict[str, object] = {"method.credit": "infopo", "method.estimator": "grpo"}

# Replies of two and three tokens; the placeholder has three. Two groups of two.
SPOKEN = [
    dialogue("hello", "ask", "it is red", "red"),
    dialogue("hello", "is it ?", "sorry ?", "ask", "it is red", "green"),
    dialogue("hello", "ask", "it is blue", "hello", "sorry ?", "blue", group_id="1"),
    dialogue("hello", "it", "sorry ?", "ask", "it is blue", "red", group_id="1"),
]
ASKED_BK = tensor([[1, 0, 0], [1, 1, 0], [1, 1, 0], [1, 1, 0]]).bool()


def local_backend() -> LocalBackend:
    raw = tiny_model(asking.TOKENIZER, hidden_size=64, num_layers=1, seed=1)
    return LocalBackend(raw, cast(Tokenizer, asking.TOKENIZER))


@cache
def local() -> Learner:
    """A model that has learnt nothing, nor does here: one layer, random weights."""
    return local_backend().create("policy", AdapterSpec(full_weights=True))


def scored(
    policy: Learner,
    info: InfoConfig,
    capabilities: Capabilities = BRANCHES,
    trajectories: list[Trajectory] = SPOKEN,
    temperature: float = 1.0,
) -> tuple[TurnBatch, InfoScores]:
    return score_information(
        policy,
        trajectories,
        turn_batch(trajectories),
        torch.ones(len(trajectories)).bool(),
        asking.CHAT,
        info,
        temperature=temperature,
        capabilities=capabilities,
    )


def info_of(score: str = "mean", fill: str = "gap", **more: object) -> InfoConfig:
    return InfoConfig.model_validate({"score": score, "fill": fill, **more})


ALLOWED = [(s, f) for s in SCORES for f in FILLS if f != "marginal" or s in ("mean", "sum")]


@pytest.mark.parametrize(("score", "fill"), ALLOWED)
def test_every_score_and_fill_measures_the_same_turns(score: str, fill: str) -> None:
    policy = local()
    batch, found = scored(policy, info_of(score, fill))
    # marginal needs a sibling who was told something at the same turn.
    expected_BK = ASKED_BK.clone()
    expected_BK[1, 1] = fill != "marginal"
    assert found.is_eligible_BK.tolist() == expected_BK.tolist()
    assert bool((found.gain_BK != 0).eq(expected_BK).all())
    assert bool(torch.isfinite(found.gain_BK).all())
    if score in ("k3", "full_kl"):
        assert float(found.gain_BK.min()) >= 0
    assert (found.clamped_tokens is None) == (score != "k3")
    assert_close(batch.logp_behaviour_BT, policy.logp(turn_batch(SPOKEN)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("score", "fill"), [(s, f) for s, f in ALLOWED if s != "full_kl"])
def test_without_branches_the_numbers_are_the_same(score: str, fill: str) -> None:
    policy, info = local(), info_of(score, fill)
    if fill == "gap":
        with pytest.raises(ConfigError, match=r'info\.fill = "gap" leaves a hole'):
            scored(policy, info, ALONE)
        return
    (batch, one), (other_batch, other) = scored(policy, info), scored(policy, info, ALONE)
    assert_close(other.gain_BK, one.gain_BK, atol=1e-5, rtol=1e-4)
    assert_close(other_batch.logp_behaviour_BT, batch.logp_behaviour_BT, atol=1e-5, rtol=0)
    assert (other.refusal, other.fill) == (one.refusal, one.fill)


def test_whole_distributions_are_refused_without_branches() -> None:
    with pytest.raises(ConfigError, match=r'info\.score = "full_kl" reads whole distributions'):
        scored(local(), info_of("full_kl", "compact"), ALONE)


def test_a_long_opening_is_read_once_for_all_siblings() -> None:
    long, short = "hello " * 40, "hello"
    for opening, is_shared in ((long, True), (short, False)):
        siblings = [
            dialogue(opening, "ask", "it is red", "red"),
            dialogue(opening, "is it ?", "sorry ?", "ask", "it is red", "green"),
            dialogue(opening, "ask", "it is blue", "red"),
        ]
        trunks = turn_batch(siblings)
        rows = packed_rows(trunks, [], torch.zeros(3, dtype=torch.int64)).batch
        assert len(rows.length_B) == (1 if is_shared else 3)
        saved = int(trunks.length_B.sum() - rows.length_B.sum())
        assert (saved > 2 * 40) == is_shared
        (batch, one), (_, alone) = (
            scored(local(), info_of(fill="compact"), able, siblings) for able in (BRANCHES, ALONE)
        )
        assert_close(one.gain_BK, alone.gain_BK, atol=1e-5, rtol=1e-4)
        assert_close(batch.logp_behaviour_BT, local().logp(trunks), atol=1e-5, rtol=0)


def test_a_gain_is_the_difference_of_two_readings() -> None:
    policy = local()
    for temperature in (1.0, 0.7):
        _, found = scored(policy, info_of("mean", "compact"), temperature=temperature)
        without = dialogue("hello", "ask", "No information found.", "red")
        factual, counterfactual = (
            policy.logp(turn_batch([one]), temperature=temperature)[0, slice(*span(one, 1))]
            for one in (SPOKEN[0], without)
        )
        expected = (factual - counterfactual).mean()
        assert found.gain_BK[0, 0].item() == pytest.approx(float(expected), abs=1e-5)
        assert found.logp_factual_BK[0, 0].item() == pytest.approx(float(factual.sum()), abs=1e-5)
        total = float(counterfactual.sum())
        assert found.logp_counterfactual_BK[0, 0].item() == pytest.approx(total, abs=1e-5)


def span(trajectory: Trajectory, k: int) -> tuple[int, int]:
    return trajectory.turns[k].start, trajectory.turns[k].stop


@pytest.mark.parametrize("score", SCORES)
def test_the_placeholder_itself_as_reply_gains_exactly_nothing_and_counts(score: str) -> None:
    _, found = scored(local(), info_of(score, placeholder="sorry ?"))
    identical_BK = tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0]]).bool()
    assert found.is_eligible_BK.tolist() == ASKED_BK.tolist()
    assert not found.gain_BK[identical_BK].any()
    assert bool((found.gain_BK[ASKED_BK & ~identical_BK] != 0).all())
    assert found.fill[1] == ("", "gap", "")


def test_markup_after_a_turn_is_scored_with_it_only_on_request() -> None:
    # Nothing stands behind this template's end-of-turn token but where a limit cut the turn.
    cut = replace(SPOKEN[1], turns=tuple(map(cut_short, SPOKEN[1].turns)))
    policy = local()
    batch, plain = scored(policy, info_of(fill="compact"), trajectories=[SPOKEN[0], cut])
    same, marked = scored(
        policy, info_of(fill="compact", score_markup=True), trajectories=[SPOKEN[0], cut]
    )
    # Only of the second dialogue's turn 1 a token follows, and turn 0 is credited with it.
    is_changed_BK = (marked.gain_BK - plain.gain_BK).abs() > 1e-4
    assert is_changed_BK.nonzero().tolist() == [[1, 0]]
    assert_close(same.logp_behaviour_BT, batch.logp_behaviour_BT, atol=1e-5, rtol=0)
    assert not batch.logp_behaviour_BT[~batch.written_BT].any()


def cut_short(turn: Turn) -> Turn:
    """The turn without its end-of-turn token, as if a limit had ended it."""
    return replace(
        turn, stop=turn.stop - 1, logp_behaviour=turn.logp_behaviour[:-1], stop_reason="length"
    )


def test_k3_counts_the_tokens_that_it_clamps() -> None:
    # So cold that log-ratios of .1 become those of 10 and above.
    _, cold = scored(local(), info_of("k3"), temperature=0.005)
    assert cold.clamped_tokens is not None and cold.clamped_tokens > 3
    assert scored(local(), info_of("k3"))[1].clamped_tokens == 0
    assert scored(local(), info_of("mean"), temperature=0.005)[1].clamped_tokens is None
    metrics = stepped(settings(INFOPO | {"info.score": "k3"})).metrics
    assert metrics["info/clamped_tokens"] == 0.0
    assert "info/clamped_tokens" not in stepped(settings(INFOPO)).metrics


def test_a_bigram_hears_nothing_so_it_gains_exactly_nothing() -> None:
    """It sees the last token alone, which is the generation prompt in both contexts."""
    for fill in ("gap", "compact", "drop"):
        result = stepped(settings(INFOPO | {"info.fill": fill}))
        assert result.evidence is not None and result.evidence.info is not None
        found = result.evidence.info
        assert bool(found.is_eligible_BK.any())
        assert not found.gain_BK.any()
        metrics = result.metrics
        assert metrics["info/gain_mean"] == metrics["info/negative_frac"] == 0.0
        assert metrics["info/flat_groups"] == 4.0 * metrics["info/groups_scored_frac"]


def test_the_update_takes_the_passes_own_log_probabilities() -> None:
    for temperature in (1.0, 0.7):
        config = settings(INFOPO | {"rollout.temperature": temperature})
        of = learners(config)
        result = stepped(config, of, on=replace(stage(), temperature=temperature))
        assert result.metrics["kl/rollout_vs_train"] == pytest.approx(0.0, abs=1e-7)
        assert result.metrics["policy/clip_frac"] == 0.0


def worth(outcomes: tuple[float, ...], step: int = 1, /, **keys: float | str) -> bool:
    """Whether the group is scored; keys: weight, and those of the section [info]."""
    weight = float(keys.pop("weight", 0.5))
    info = InfoConfig.model_validate(keys)
    is_scored_B = is_worth_scoring(group(outcomes, step), info, weight=weight)
    assert len(set(is_scored_B.tolist())) == 1
    return bool(is_scored_B[0])


def test_a_group_is_scored_where_its_gate_lets_something_through() -> None:
    # std of (1, 0, 0) is .5774: gates σ(−.5774/.5) = .2396 and σ(−.5774/.05) = 9.7e-6.
    closed: dict[str, float] = {"gate_temperature": 0.05}
    assert worth((1, 0, 0))
    assert not worth((1, 0, 0), **closed)
    assert worth((0, 0, 0), **closed)
    assert worth((1, 0, 0), gate="open", **closed)
    assert worth((1, 0, 0), skip=0.0, **closed)
    assert worth((1, 0, 0), skip=0.5 * 0.2396)
    assert not worth((1, 0, 0), skip=0.5 * 0.2397)
    assert not worth((1, 0, 0), weight=0.5e-3 / 0.2397)  # of the gate's and the weight's product


def test_every_tenth_step_all_groups_are_scored() -> None:
    closed: dict[str, float] = {"gate_temperature": 0.05}
    assert [s for s in range(1, 31) if worth((1, 0, 0), s, **closed)] == [10, 20, 30]
    assert worth((1, 0, 0), 3, probe_every=3, **closed)


@pytest.mark.parametrize(("step", "is_probe"), [(1, False), (10, True)])
def test_closed_groups_are_not_scored_but_on_probe_steps(step: int, is_probe: bool) -> None:
    # A threshold between the four groups' gates: equal seeds give equal dialogues.
    gate_B = variance_gate(outcomes(dialogues(settings(), step)), GROUP_B, temperature=0.5)
    skip = 0.5 * float(gate_B.mean())
    config, on = settings(INFOPO | {"info.skip": skip, "train.beta": 0.0}), backend()
    result = stepped(config, learners(config, on), step)
    assert result.evidence is not None and result.evidence.info is not None
    found, expected_B = result.evidence.info, (0.5 * gate_B >= skip) | is_probe
    assert is_probe or 0 < int(expected_B.sum()) < 16
    assert found.is_scored_B.tolist() == expected_B.tolist()
    assert not found.is_eligible_BK[~expected_B].any()
    closed = [word for b in (~expected_B).nonzero()[:, 0].tolist() for word in found.refusal[b]]
    assert set(closed) <= {"gate closed", "last turn"}
    share = float(expected_B.float().mean())
    assert result.metrics["info/groups_scored_frac"] == pytest.approx(share)
    for record, is_scored in zip(
        training_records(stage(), config, step, result), expected_B, strict=True
    ):
        assert record.group_measures["scored"] == float(is_scored)
    # Branches go along in their dialogues' rows.
    assert (on.passes["policy", "score"], on.passes["policy", "train"]) == (16, 16)


def test_only_eligible_turns_of_scored_groups_get_a_branch() -> None:
    def tokens(*is_scored: int) -> int:
        policy = Counting(backend(), "policy", AdapterSpec())
        score_information(
            policy, SPOKEN, turn_batch(SPOKEN), tensor(is_scored).bool(), asking.CHAT, InfoConfig(),
            temperature=1.0, capabilities=BRANCHES,
        )  # fmt: skip
        return policy.tokens

    plain = sum(one.turns[-1].stop for one in SPOKEN)
    # A branch is ∅ (3), <|end|> and <|assistant|> (2), and the next turn: here a word and its end.
    assert tokens(0, 0, 0, 0) == plain
    assert tokens(0, 0, 1, 1) == plain + 4 * (3 + 2 + 2)
    assert tokens(1, 1, 1, 1) == plain + 7 * (3 + 2 + 2)


class Counting(FakeLearner):
    """A table that counts the tokens it reads."""

    tokens = 0

    def logp(self, batch: TurnBatch, *, temperature: float = 1.0) -> Tensor:
        self.tokens += int(batch.length_B.sum())
        return torch.zeros(batch.token_BT.shape)


def test_a_backend_without_branches_is_refused_before_anything_is_played() -> None:
    def made(fill: str) -> Learners:
        on, config = local_backend(), settings(INFOPO | {"info.fill": fill})
        on.capabilities = replace(on.capabilities, branches=False)
        return learners_of(Assembly(config, asking.stage(), on))

    with pytest.raises(ConfigError, match=r'info\.fill = "gap" leaves a hole'):
        made("gap")
    assert not made("compact").capabilities.branches
