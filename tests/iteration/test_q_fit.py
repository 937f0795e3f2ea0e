"""Fitting both Q-functions: what each learns from, what it starts from, and what is refused."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import turnwise.iteration.q_train as q_train
from tests.iteration.logged import heard, logged, said, settings, yes_or_no
from tests.rollouts.toy import CHAT, TOKENIZER, backend
from tests.tokens.templates import TOKENIZERS
from turnwise.backends import AdapterSpec, Capabilities, Sampler
from turnwise.backends.local import LocalBackend
from turnwise.backends.tiny import tiny_model
from turnwise.conversation import LoggedConversation, LoggedOutcome
from turnwise.errors import (
    CapabilityError,
    CheckpointError,
    ConfigError,
    LogsError,
    OneOutcomeError,
    TemplateError,
    TrainingError,
)
from turnwise.iteration.config import QConfig
from turnwise.iteration.episodes import Episode, build_episodes
from turnwise.iteration.q_choices import chosen_head, chosen_targets
from turnwise.iteration.q_fit import FACTS, CrossFit, fit_q, load_cross_fit
from turnwise.iteration.q_fold import mc_targets
from turnwise.iteration.q_train import Fitting, examples
from turnwise.tokens import ChatFormat
from turnwise.training.observer import Silent
from turnwise.training.prm import PassLimits


class Ears(Silent):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def message(self, text: str) -> None:
        self.heard.append(text)

    def warning(self, text: str) -> None:
        self.heard.append(f"warning: {text}")


def q_config(**changes: object) -> QConfig:
    small = {"learning_rate": 0.005, "batch_size": 16, "num_heads": 2, "lora_rank": 8}
    return settings({"q": {**small, **changes}}).q


def local() -> LocalBackend:
    model = tiny_model(TOKENIZER, hidden_size=64, num_layers=1, seed=1)
    return LocalBackend(model, TOKENIZER)


def built(
    conversations: Sequence[LoggedConversation], *, round: int = 0, version: str | None = "v1"
) -> list[Episode]:
    return build_episodes(conversations, CHAT, settings(), round=round, version=version)[0]


@cache
def toy(number: int = 120) -> tuple[Episode, ...]:
    return tuple(built([yes_or_no(i, effect=0.7) for i in range(number)]))


def fit(episodes: Sequence[Episode], config: QConfig | None = None, **more: object) -> CrossFit:
    on = more.pop("on", None) or local()
    options = {"discount": 1.0, "seed": 0, **more}
    return fit_q(on, CHAT, episodes, config or q_config(num_epochs=1), **options)  # type: ignore[arg-type]


def said_of(found: CrossFit, episodes: Sequence[Episode]) -> tuple[Tensor, Tensor]:
    rows = [episode.trajectory for episode in episodes]
    return found.a.values(rows).q_EBK, found.b.values(rows).q_EBK


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[CrossFit, Path]:
    found, folder = fit(toy()), tmp_path_factory.mktemp("fit")
    found.save(folder)
    return found, folder


def test_both_learn_which_reply_is_worth_more() -> None:
    """Success .2, with a yes as second reply .9; values are of customers not trained on."""
    episodes = toy(480)
    found = fit(episodes, q_config())
    for fold, q_EBK in zip((1, 0), said_of(found, episodes), strict=True):
        held_out = torch.tensor([episode.fold == fold for episode in episodes])
        is_yes = torch.tensor(
            [episode.trajectory.conversation[-1].content == "yes" for episode in episodes]
        )
        q_B = q_EBK.mean(dim=0)[:, 1]
        assert 0.7 < q_B[held_out & is_yes].mean() < 1
        assert 0 < q_B[held_out & ~is_yes].mean() < 0.4
    assert all(slope > 0 for slope in found.slopes)


def test_the_same_arguments_in_any_order_give_the_same_numbers(
    fitted: tuple[CrossFit, Path],
) -> None:
    again = fit(list(reversed(toy())))
    for one, other in zip(said_of(fitted[0], toy()), said_of(again, toy()), strict=True):
        assert torch.equal(one, other)
    other_seed = fit(toy(), seed=1)
    assert not torch.equal(said_of(other_seed, toy())[0], said_of(fitted[0], toy())[0])


def test_micro_batches_change_nothing(
    fitted: tuple[CrossFit, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(q_train, "_LIMITS", PassLimits(max_rows=3, max_tokens=64))
    again = fit(toy())
    for one, other in zip(said_of(fitted[0], toy()), said_of(again, toy()), strict=True):
        assert_close(other, one, atol=1e-3, rtol=0)


def test_a_saved_fit_says_the_same_when_it_is_loaded(fitted: tuple[CrossFit, Path]) -> None:
    found, folder = fitted
    loaded = load_cross_fit(local(), CHAT, q_config(num_epochs=1), folder)
    assert loaded.slopes == found.slopes
    for one, other in zip(said_of(found, toy()), said_of(loaded, toy()), strict=True):
        assert torch.equal(one, other)
    assert loaded.facts == json.loads(json.dumps(found.facts))


def test_a_fit_can_be_loaded_beside_itself(tmp_path: Path) -> None:
    on = local()
    found = fit(toy(60), on=on)
    found.save(tmp_path)
    loaded = load_cross_fit(on, CHAT, q_config(num_epochs=1), tmp_path)
    assert torch.equal(said_of(loaded, toy(60))[0], said_of(found, toy(60))[0])


def test_another_template_or_other_settings_are_refused(fitted: tuple[CrossFit, Path]) -> None:
    config, folder = q_config(num_epochs=1), fitted[1]
    with pytest.raises(TemplateError, match="fitted with another chat template"):
        load_cross_fit(local(), ChatFormat(TOKENIZERS["chatml"]), config, folder)
    with pytest.raises(CheckpointError, match=r"another q.num_heads: expected 5, found 2"):
        load_cross_fit(local(), CHAT, q_config(num_heads=5), folder)
    with pytest.raises(CheckpointError, match="expected a fitted Q-function in"):
        load_cross_fit(local(), CHAT, config, folder / "a")


def test_a_model_never_sees_the_other_folds_customers(fitted: tuple[CrossFit, Path]) -> None:
    """Turning the outcomes of fold B around moves the scores of A not at all, only its map."""
    turned = [
        replace(
            episode,
            mc_return=tuple(1 - g for g in episode.mc_return),
            outcome=None if episode.outcome is None else 1 - episode.outcome,
        )
        if episode.fold == 1
        else episode
        for episode in toy()
    ]
    found, rows = fit(turned), [episode.trajectory for episode in toy()]
    plain = [replace(q, q_map=found.b.v_map) for q in (fitted[0].a, found.a)]
    assert torch.equal(plain[0].values(rows).q_EBK, plain[1].values(rows).q_EBK)
    assert fitted[0].a.q_map != found.a.q_map


def test_the_next_round_starts_where_the_last_one_ended(fitted: tuple[CrossFit, Path]) -> None:
    still = q_config(learning_rate=1e-9, num_epochs=1)
    rows = [episode.trajectory for episode in toy()]
    same = fit(toy(), still, previous=fitted[1], round=1)
    before = replace(fitted[0].a, q_map=same.a.q_map)
    assert_close(same.a.values(rows).q_EBK, before.values(rows).q_EBK, atol=1e-4, rtol=0)
    fresh = fit(toy(), still.model_copy(update={"start": "fresh"}), previous=fitted[1])
    spread = fresh.a.values(rows).q_EBK.std()
    assert spread < 1e-4 < same.a.values(rows).q_EBK.std()


def fitting(config: QConfig, *, round: int = 0, age_weight: float = 0.5) -> Fitting:
    return Fitting(config, 0, 3, age_weight, round, Silent())


def test_customers_that_stop_the_fit_do_not_train_it() -> None:
    config = q_config(early_stop_share=0.25)
    own = [episode for episode in toy() if episode.fold == 0]
    watched = fitting(config).stop_customers(own)
    targets = examples(own, mc_targets(own), config)
    learn, watch = targets.without(watched), targets.of(watched)
    assert not {e.customer for e in learn.episodes} & {e.customer for e in watch.episodes}
    assert len(learn.episodes) + len(watch.episodes) == len(own)
    assert abs(len(watched) / len({e.customer for e in own}) - 0.25) < 0.02
    assert learn.num_steps + watch.num_steps == targets.num_steps == 2 * len(own)


def test_old_rows_weigh_half_per_round_of_age_and_heads_draw_their_customers() -> None:
    config, some = q_config(), toy(40)
    targets = examples(some, mc_targets(some), config)
    found = fit(toy(60))
    now = fitting(config).lesson(found.a.network, targets).weight_BE
    later = fitting(config, round=2).lesson(found.a.network, targets).weight_BE
    assert torch.equal(later, now / 4)
    assert not torch.equal(now[:, 0], now[:, 1])
    same_customer = [
        (i, j) for i in range(40) for j in range(i) if some[i].customer == some[j].customer
    ]
    assert all(torch.equal(now[i], now[j]) for i, j in same_customer) and same_customer


def test_rows_of_earlier_rounds_are_pooled_or_dropped() -> None:
    old, new = (
        built([yes_or_no(i) for i in range(60)]),
        [
            replace(episode, round=1, conversation_id=f"new {episode.conversation_id}")
            for episode in toy(60)
        ],
    )
    for pool, rows in (("pooled", 120), ("drop", 60)):
        found = fit([*old, *new], q_config(num_epochs=1, pool=pool, targets="mc"), round=1)
        folds = cast(Sequence[Mapping[str, int]], found.facts["folds"])
        assert sum(fold["rows"] for fold in folds) == rows


def test_one_outcome_is_refused_before_anything_is_fitted() -> None:
    alike = [replace(yes_or_no(i), outcome=LoggedOutcome("sale", 1.0)) for i in range(8)]
    on = local()
    with pytest.raises(OneOutcomeError, match="found 8 × 1"):
        fit(built(alike), on=on)
    on.create_reader("fit_a", AdapterSpec(), start=[0.0])


def test_a_fold_without_returns_is_refused() -> None:
    one_fold = [episode for episode in toy() if episode.fold == 0]
    with pytest.raises(LogsError, match="fold B: expected decision steps with a return"):
        fit(one_fold)


def test_a_fold_in_which_only_watched_customers_have_returns_is_refused() -> None:
    config = q_config(num_epochs=1)
    watched = Fitting(config, 0, 0, 1.0, 0, Silent()).stop_customers(
        [episode for episode in toy() if episode.fold == 0]
    )
    without = [
        replace(episode, has_mc=(False,) * len(episode.has_mc))
        if episode.fold == 0 and episode.customer not in watched
        else episode
        for episode in toy()
    ]
    with pytest.raises(LogsError, match=r"fold A: .* beside those of the \d+ customers that stop"):
        fit(without, config)


def test_a_customer_in_both_folds_is_refused() -> None:
    given = [replace(episode, fold=i % 2) for i, episode in enumerate(toy())]
    with pytest.raises(LogsError, match="customer_in_both_splits"):
        fit(given)


def test_targets_follow_from_whose_conversations_they_are() -> None:
    policy = cast(Sampler, object())  # that there is one is all that is asked
    own, mixed = toy(20), [*toy(20), *built([yes_or_no(99)], round=1, version="v2")]
    unknown = built([yes_or_no(i) for i in range(20)], version=None)
    ears, config = Ears(), q_config()
    for episodes, has_sampler, expected in (
        (own, policy is not None, "mc"),
        (mixed, True, "fqe"),
        (unknown, True, "fqe"),
        (mixed, False, "mc"),
        (unknown, False, "mc"),
    ):
        assert chosen_targets(episodes, config, has_sampler, ears) == expected
    assert len(ears.heard) == 3 and all("whoever wrote them" in text for text in ears.heard)
    assert chosen_targets(mixed, q_config(targets="mc"), True, ears) == "mc"
    with pytest.raises(CapabilityError, match=r'q.targets = "fqe" needs replies of the policy'):
        chosen_targets(own, q_config(targets="fqe"), False, ears)


def test_heads_follow_from_what_the_backend_can_do() -> None:
    on, ears = backend(), Ears()
    assert chosen_head(on, q_config(), ears) == "scalar"
    on.capabilities = Capabilities(value_head=False)
    assert chosen_head(on, q_config(), ears) == "verdict" and len(ears.heard) == 1
    assert chosen_head(on, q_config(head="verdict"), ears) == "verdict" and len(ears.heard) == 1
    with pytest.raises(CapabilityError, match="needs a backend with value heads"):
        chosen_head(on, q_config(head="scalar"), ears)
    with pytest.raises(ConfigError, match=r'expected q.loss = "bce", found "mse"'):
        chosen_head(on, q_config(loss="mse"), ears)


def test_a_verdict_is_fitted_saved_and_loaded_like_a_head(tmp_path: Path) -> None:
    words = {"verdict_question": "go", "verdict_yes": "yes", "verdict_no": "no"}
    config = q_config(head="verdict", num_epochs=1, **words)
    found = fit(toy(60), config)
    found.save(tmp_path)
    loaded = load_cross_fit(local(), CHAT, config, tmp_path)
    assert torch.equal(said_of(loaded, toy(60))[0], said_of(found, toy(60))[0])
    assert found.facts["head"] == "verdict"


@pytest.mark.parametrize("loss", ["mse", "hl-gauss"])
def test_other_losses_and_ranges_are_fitted(loss: str) -> None:
    """Returns of −1 or 3, the latter after a yes and after one no in five."""
    config = q_config(
        loss=loss, return_low=-1.0, return_high=3.0, num_heads=1, early_stop_share=0.0,
        num_epochs=4,
    )  # fmt: skip
    sure = built([yes_or_no(i, effect=0.8) for i in range(240)])
    wide = [replace(one, mc_return=tuple(4 * g - 1 for g in one.mc_return)) for one in sure]
    q_BK = fit(wide, config).a.values([episode.trajectory for episode in wide]).q_BK
    is_yes = torch.tensor([e.trajectory.conversation[-1].content == "yes" for e in wide])
    assert q_BK[is_yes, 1].mean() > q_BK[~is_yes, 1].mean() + 2


def test_a_fit_that_diverges_names_its_fold_and_conversations() -> None:
    config = q_config(learning_rate=1e38, batch_size=4, num_epochs=2)
    with pytest.raises(TrainingError, match=r"fold A, a batch of the conversations c\d+ to c\d+: "):
        fit(toy(), config)


def test_files_of_a_fit_hold_no_pickle(fitted: tuple[CrossFit, Path]) -> None:
    files = {path.suffix for path in fitted[1].rglob("*") if path.is_file()}
    assert (fitted[1] / FACTS).is_file() and files <= {".json", ".safetensors", ".md"}


def test_a_conversation_nobody_answered_has_one_step_and_its_return() -> None:
    (episode,) = built([logged(heard("hello"), said("yes"), outcome=0.5)])
    assert mc_targets([episode]) == [[0.5]]
