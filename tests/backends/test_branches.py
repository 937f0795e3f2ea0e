"""Rows of trees against one plain row for each context: every way gives the same numbers.

Small random models: rotary positions, windows on some layers and capped logits, windows on all
layers, learned positions, attention that adds its mask. Norms of transformers compute in float32
even in a model of doubles; where 1e-12 is asked for they are replaced by their formula.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

from turnwise.backends import AdapterSpec
from turnwise.backends.causal import attention_of
from turnwise.backends.local import LocalBackend
from turnwise.backends.tiny import tiny_model, tiny_tokenizer
from turnwise.backends.trees import paths_apart, tree_of, trees_apart
from turnwise.backends.ways import LONG_TREE, Way, branch_way
from turnwise.errors import ConfigError, LogProbError, ShapeError
from turnwise.tokens import Branch, Packed, TurnBatch, pack, separate
from turnwise.tokens.tree import Tree

TOKENIZER = tiny_tokenizer(["which day ?", "friday ."] * 3, 280)
VOCAB = len(TOKENIZER)
SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "bos_token_id": None,
    "eos_token_id": 4,
    "pad_token_id": 5,
}


def qwen() -> PreTrainedModel:
    return tiny_model(TOKENIZER, hidden_size=64, num_layers=2, seed=3)


def eager() -> PreTrainedModel:
    made = qwen()
    made.set_attn_implementation("eager")
    return made


def gemma() -> PreTrainedModel:
    """A window on one of two layers; attention scores and logits are capped."""
    made: PreTrainedModel = Gemma2ForCausalLM(
        Gemma2Config(
            **SHAPE,
            sliding_window=9,
            layer_types=["sliding_attention", "full_attention"],
            final_logit_softcapping=0.5,
            initializer_range=0.2,
        )
    )
    return made


def mistral() -> PreTrainedModel:
    made: PreTrainedModel = MistralForCausalLM(
        MistralConfig(**SHAPE, sliding_window=9, initializer_range=0.1)
    )
    return made


def gpt2() -> PreTrainedModel:
    config = GPT2Config(
        vocab_size=VOCAB,
        n_embd=64,
        n_layer=2,
        n_head=2,
        n_positions=256,
        bos_token_id=None,
        eos_token_id=4,
        initializer_range=0.1,
    )
    made: PreTrainedModel = GPT2LMHeadModel(config)
    return made


MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "qwen": qwen,
    "eager": eager,
    "gemma": gemma,
    "mistral": mistral,
    "gpt2": gpt2,
}
WINDOWS = {"gemma", "mistral"}


def backend(made: PreTrainedModel | None = None, **options: Any) -> LocalBackend:
    return LocalBackend(made or qwen(), TOKENIZER, **{"max_rows": 3, **options})


@cache
def backend_for(model: str, way: Way) -> LocalBackend:
    torch.manual_seed(0)
    return backend(MODELS[model](), branch_way=way)


def story(fill: str = "gap", *, opening: int = 0) -> tuple[TurnBatch, list[Branch]]:
    """Four dialogues of six turns with feedback shorter and longer than the placeholder.

    Each turn but the last has a counterfactual; every other one has a text of two tokens nested at
    its end and is joined by a sibling. fill: positions with a hole, or without. opening: tokens
    that all dialogues begin with.
    """
    chance = torch.Generator().manual_seed(1)

    def text(size: int) -> list[int]:
        return torch.randint(6, VOCAB, (size,), generator=chance).tolist()

    shared = text(opening)
    rows, turns, branches = [], [], list[Branch]()
    for b in range(4):
        row, turn_of = [*shared, *text(4 + b)], [-1] * (opening + 4 + b)
        for k in range(6):
            said = text(2 + (k + b) % 3)
            if k:
                fork, body = len(row) + 1, text(1 + (k + b) % 2 * 5)
                row += [7, *body, 8]
                turn_of += [-1] * (2 + len(body))
                has_hole = fill == "gap" and len(body) > 3
                start = len(row) - 1 if has_hole else fork + 3
                positions = [*range(fork, fork + 3), *range(start, start + 1 + len(said))]
                spoken = (4, 4 + len(said))
                target = (len(row), len(row) + len(said))
                kind = "counterfactual"
                own = Branch(
                    b,
                    fork,
                    (9, 10, 11, 8, *said),
                    tuple(positions),
                    spoken,
                    kind,
                    k - 1,
                    None,
                    target,
                )
                branches.append(own)
                if k % 2:
                    after = positions[-1] + 1
                    nested = len(branches) - 1
                    verdict = Branch(
                        b, fork, (12, 13), (after, after + 1), (1, 2), "verdict", k - 1, nested
                    )
                    branches += [verdict, replace(own, token_ids=(20, 21, 22, 8, *said))]
            row += said
            turn_of += [k] * len(said)
        rows.append(row)
        turns.append(turn_of)
    width = max(map(len, rows))
    token_BT = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    turn_BT = torch.tensor([turn + [-1] * (width - len(turn)) for turn in turns])
    length_B = torch.tensor([len(row) for row in rows])
    return TurnBatch(token_BT, turn_BT, torch.zeros(token_BT.shape), length_B), branches


def values(on: LocalBackend, packed: Packed) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the trunks' tokens, and of all branches' one after the other."""
    logp_RS = on.reference().logp(packed.batch)
    return packed.factual(logp_RS), torch.cat(packed.of_branches(logp_RS))


def by_hand(on: LocalBackend, batch: TurnBatch) -> Tensor:
    """logp_BT of rows that are single texts, by the model's own forward of each row.

    The window is a mask built here from positions, token by token.
    """
    tree, out_BT = tree_of(batch), torch.zeros(batch.token_BT.shape)
    for b, length in enumerate(batch.length_B.tolist()):
        position_T = tree.position_BT[b, :length]
        masks = {}
        for kind, window in {"full_attention": 10**6, "sliding_attention": 9}.items():
            seen = [
                [k <= q and int(position_T[q] - position_T[k]) < window for k in range(length)]
                for q in range(length)
            ]
            masks[kind] = torch.where(torch.tensor(seen), 0.0, -torch.inf)[None, None]
        config = on.base.model.config
        only = "sliding_attention" if isinstance(config, MistralConfig) else "full_attention"
        mask = masks if isinstance(config, Gemma2Config) else masks[only]
        logits_TV = on.base.model(
            input_ids=batch.token_BT[b : b + 1, :length],
            position_ids=position_T[None],
            attention_mask=mask,
            use_cache=False,
        ).logits[0]
        logp_TV = logits_TV[:-1].float().log_softmax(dim=-1).detach()
        of_token_T = logp_TV.gather(1, batch.token_BT[b, 1:length, None])[:, 0]
        out_BT[b, 1:length] = torch.where(batch.written_BT[b, 1:length], of_token_T, 0.0)
    return out_BT


@pytest.mark.parametrize("fill", ["gap", "compact"])
@pytest.mark.parametrize("model", list(MODELS))
def test_every_way_gives_what_the_model_gives_for_each_context_alone(model: str, fill: str) -> None:
    trunks, branches = story(fill)
    packed, apart = pack(trunks, branches, max_tokens=1), separate(trunks, branches)
    reference = backend_for(model, "separate")
    expected_RT = by_hand(reference, apart.batch)
    assert_close(reference.reference().logp(apart.batch), expected_RT, atol=1e-5, rtol=1e-5)
    expected = apart.factual(expected_RT), torch.cat(apart.of_branches(expected_RT))
    assert expected[1].std() > 0.05  # a model that says the same of everything would show nothing
    ways: list[Way] = ["separate", "mask", "cache"]
    for way in [*ways, "crop"] if model not in WINDOWS else ways:
        on = backend_for(model, way)
        for found, wanted in zip(values(on, packed), expected, strict=True):
            assert_close(found, wanted, atol=1e-5, rtol=1e-5)
        assert on.ways[way] >= len(packed.batch.length_B)


class ExactNorm(nn.Module):
    """Root mean square norm in the precision of its input."""

    def __init__(self, like: nn.Module) -> None:
        super().__init__()
        assert isinstance(like.weight, Tensor)
        self.weight, self.eps = like.weight, 1e-6

    def forward(self, x: Tensor) -> Tensor:
        scaled: Tensor = self.weight * x * (x.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return scaled


@pytest.mark.parametrize("fill", ["gap", "compact"])
@pytest.mark.parametrize(("attention", "bound"), [("sdpa", 1e-12), ("eager", 1e-6)])
def test_in_double_precision_only_rounding_is_left(attention: str, bound: float, fill: str) -> None:
    made = qwen().double()
    made.set_attn_implementation(attention)
    for name, module in list(made.named_modules()):
        if type(module).__name__ == "Qwen3RMSNorm":
            made.set_submodule(name, ExactNorm(module))
    trunks, branches = story(fill)
    apart, packed = separate(trunks, branches), pack(trunks, branches, max_tokens=1)
    found = {}
    for way in get_args(Way):
        if way == "flex":
            continue
        on = backend(made, branch_way=way)
        side = apart if way == "separate" else packed
        reading = on.scoring.reading("reference", side.batch)
        with torch.no_grad():
            scores = on.base.scores(reading.batch, temperature=1.0, read=reading.read)
        logp_RS = reading.home(scores.logp_BT)
        assert logp_RS.dtype == torch.float64
        found[way] = torch.cat([side.factual(logp_RS).flatten(), *side.of_branches(logp_RS)])
    for way in ("mask", "cache", "crop"):
        assert (found[way] - found["separate"]).abs().max() <= bound, way


def test_half_precision_moves_a_gain_by_less_than_two_hundredths() -> None:
    made = qwen()
    nn.Module.to(made, torch.bfloat16)
    trunks, branches = story()
    gains = []
    for way, build in (("separate", separate), ("auto", partial(pack, max_tokens=1))):
        on, packed = backend(made, branch_way=way), build(trunks, branches)
        logp_RS = on.reference().logp(packed.batch)
        counterfactual_BT = packed.counterfactual(logp_RS)
        has_branch_BT = counterfactual_BT.isfinite()
        difference_BT = (packed.factual(logp_RS) - counterfactual_BT).where(has_branch_BT, 0.0)
        gains.append(difference_BT.sum(dim=1) / has_branch_BT.sum(dim=1))
    assert gains[0].abs().max() > 0.02
    assert_close(gains[1], gains[0], atol=2e-2, rtol=0)


LAYOUTS: dict[str, Callable[[TurnBatch, list[Branch]], Packed]] = {
    "two dialogues in a row": lambda trunks, branches: pack(trunks, branches, max_tokens=400),
    "an opening shared by the group": lambda trunks, branches: pack(
        trunks, branches, max_tokens=1000, group_B=torch.zeros(4)
    ),
    "two groups": lambda trunks, branches: pack(
        trunks, branches, max_tokens=1000, group_B=torch.tensor([0, 1, 0, 1])
    ),
    "padding on both sides": lambda trunks, branches: padded(pack(trunks, branches, max_tokens=1)),
}


def padded(packed: Packed, left: int = 3, right: int = 2) -> Packed:
    """The same rows with padding of token 9 before and behind them."""
    batch, tree = packed.batch, packed.batch.tree
    assert tree is not None
    S = batch.token_BT.shape[1]

    def around(values_BT: Tensor, blank: float) -> Tensor:
        return nn.functional.pad(values_BT, (left, right), value=blank)

    own_end = (torch.arange(left + S + right) + 1).repeat(len(batch.token_BT), 1)
    own_end[:, left : left + S] = tree.end_BT + left
    parent_BT = torch.where(tree.parent_BT < 0, -1, tree.parent_BT + left)
    wide = TurnBatch(
        around(batch.token_BT, 9),
        around(batch.turn_of_token_BT, -1),
        around(batch.logp_behaviour_BT, 0),
        batch.length_B + left,
        Tree(around(tree.position_BT, 0), own_end, around(parent_BT, -1)),
    )

    def place(old_N: Tensor) -> Tensor:
        return old_N // S * (left + S + right) + old_N % S + left

    return replace(
        packed,
        batch=wide,
        written_place_N=place(packed.written_place_N),
        scored_place_N=place(packed.scored_place_N),
        target_place_N=place(packed.target_place_N),
    )


@pytest.mark.parametrize("way", ["mask", "cache", "crop", "separate"])
@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_no_layout_of_the_rows_changes_a_number(layout: str, way: Way) -> None:
    trunks, branches = story(opening=6)
    packed, on = LAYOUTS[layout](trunks, branches), backend_for("qwen", way)
    apart = values(backend_for("qwen", "separate"), separate(trunks, branches))
    for found, wanted in zip(values(on, packed), apart, strict=True):
        assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("way", ["mask", "cache", "crop"])
def test_the_order_of_branches_changes_nothing(way: Way) -> None:
    trunks, all_branches = story()
    branches = [branch for branch in all_branches if branch.parent is None]
    turned, on = branches[::-1], backend_for("qwen", way)
    found = on.reference().logp(pack(trunks, turned, max_tokens=1).batch)
    packed = pack(trunks, branches, max_tokens=1)
    wanted = packed.of_branches(on.reference().logp(packed.batch))
    found_each = pack(trunks, turned, max_tokens=1).of_branches(found)[::-1]
    assert_close(torch.cat(found_each), torch.cat(wanted), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("way", ["mask", "cache", "crop"])
def test_a_branch_sees_neither_what_follows_its_fork_nor_other_branches(way: Way) -> None:
    trunks, branches = story()
    victim = 0  # forks first, in dialogue 0
    after = trunks.token_BT.clone()
    after[0, branches[victim].fork :] = 30
    others = [
        replace(branch, token_ids=(31,) * len(branch.token_ids))
        if i != victim and branch.parent != victim
        else branch
        for i, branch in enumerate(branches)
    ]
    on, found = backend_for("qwen", way), []
    for side in ((trunks, branches), (replace(trunks, token_BT=after), others)):
        packed = pack(*side, max_tokens=1)
        logp_RS = on.reference().logp(packed.batch)
        found.append((packed.of_branches(logp_RS)[victim], packed.of_branches(logp_RS)[2]))
    assert_close(found[1][0], found[0][0], atol=1e-6, rtol=0)
    assert not torch.allclose(found[1][1], found[0][1], atol=1e-3)  # another branch did change


@pytest.mark.parametrize("way", ["mask", "cache", "crop", "separate"])
@pytest.mark.parametrize("model", ["qwen", "gemma"])
def test_divergence_is_that_of_the_models_own_distributions(model: str, way: Way) -> None:
    if model in WINDOWS and way == "crop":
        way = "cache"
    on = backend_for(model, way)
    trunks, branches = story("compact")
    packed, apart = pack(trunks, branches, max_tokens=1), separate(trunks, branches)
    found_N = on.reference().divergence(packed.batch, *packed.pairs(), temperature=0.7)

    def logp(place: tuple[Tensor, Tensor]) -> Tensor:
        rows = on.base.model(input_ids=apart.batch.token_BT, use_cache=False).logits.detach()
        chosen: Tensor = (rows[place] / 0.7).log_softmax(dim=-1)
        return chosen

    p_NV, q_NV = (logp(place) for place in apart.pairs())
    expected_N = (p_NV.exp() * (p_NV - q_NV)).sum(dim=-1)
    assert expected_N.max() > 0.001
    assert_close(found_N, expected_N, atol=1e-5, rtol=1e-4)
    here = packed.pairs()[0]
    assert bool((on.reference().divergence(packed.batch, here, here) == 0).all())


def test_a_distribution_can_be_read_after_a_texts_last_token() -> None:
    trunks, branches = story()
    packed, apart = pack(trunks, branches, max_tokens=1), separate(trunks, branches)
    last = [int(packed.scored_place_N.split(packed.num_scored)[i][-1]) for i in (0, 3)]
    S = packed.batch.token_BT.shape[1]
    places = [(torch.tensor([place // S]), torch.tensor([place % S])) for place in last]
    T = apart.batch.token_BT.shape[1]
    far = [int(apart.scored_place_N.split(apart.num_scored)[i][-1]) for i in (0, 3)]
    alone = [(torch.tensor([place // T]), torch.tensor([place % T])) for place in far]
    found = [
        backend_for("qwen", way).reference().divergence(side.batch, *two)
        for way, side, two in (
            ("cache", packed, places),
            ("crop", packed, places),
            ("separate", apart, alone),
        )
    ]
    assert found[0] > 0.01
    assert_close(torch.cat(found), found[2].expand(3), atol=1e-5, rtol=1e-4)


def test_a_place_outside_the_rows_is_named() -> None:
    packed = padded(pack(*story(), max_tokens=1))
    place = (torch.tensor([0]), torch.tensor([1]))
    with pytest.raises(ShapeError, match="found row 0, column 1"):
        backend_for("qwen", "mask").reference().divergence(packed.batch, place, place)


def trained_norm(packed: Packed, **options: Any) -> tuple[float, float, LocalBackend]:
    on = backend(**options)
    learner = on.create("policy", AdapterSpec(full_weights=True))

    def loss(logp_RS: Tensor) -> Tensor:
        terms = [
            packed.factual(logp_RS).square().mean(),
            *map(torch.sum, packed.of_branches(logp_RS)),
        ]
        return torch.stack(terms).sum()

    weight_RS = packed.batch.written_BT.float() * 0.01
    found = learner.forward_backward(packed.batch, loss, entropy_weight_BT=weight_RS)["loss"]
    return found, learner.optim_step(0.0).grad_norm, on


@pytest.mark.parametrize("asked", ["auto", "mask", "cache", "separate"])
def test_packed_rows_give_the_gradient_of_separate_rows(asked: str) -> None:
    trunks, branches = story(opening=5)
    loss, norm, _ = trained_norm(separate(trunks, branches))
    packed = pack(trunks, branches, max_tokens=400, group_B=torch.zeros(4))
    found = trained_norm(packed, branch_way=asked, gradient_checkpointing=asked == "mask")
    assert found[0] == pytest.approx(loss, rel=1e-5)
    assert found[1] == pytest.approx(norm, rel=1e-4)
    # Through a cache there is no gradient: a mask is taken instead.
    assert set(found[2].ways) == {"separate" if asked == "separate" else "mask"}


@pytest.mark.parametrize("way", ["mask", "cache", "crop"])
def test_before_the_first_step_the_ratio_to_the_trees_log_probabilities_is_one(way: Way) -> None:
    on = backend(branch_way=way)
    trunks, branches = story()
    learner, packed = on.create("policy", AdapterSpec(rank=4)), pack(trunks, branches, max_tokens=1)
    before_BT = packed.factual(learner.logp(packed.batch))
    ratios = []

    def loss(logp_BT: Tensor) -> Tensor:
        ratio_BT = (logp_BT - before_BT).exp()
        ratios.append(ratio_BT.detach())
        return ratio_BT.sum()

    learner.forward_backward(trunks, loss)
    assert_close(ratios[0], torch.ones_like(ratios[0]), atol=1e-5, rtol=0)


def test_adapters_read_trees_with_their_own_weights() -> None:
    on = backend()
    trunks, branches = story()
    packed, learner = pack(trunks, branches, max_tokens=1), on.create("policy", AdapterSpec(rank=4))
    for _ in range(3):
        learner.forward_backward(trunks, lambda logp_BT: -logp_BT.mean())
        learner.optim_step(0.05)
    found = packed.factual(learner.logp(packed.batch))
    assert_close(found, learner.logp(trunks), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found, packed.factual(on.reference().logp(packed.batch)), atol=0.01)
    assert on.ways == {"cache": 8}


def test_a_number_that_is_not_finite_names_dialogue_and_turn() -> None:
    made = qwen()
    trunks, branches = story()
    packed = pack(trunks, branches, max_tokens=400)
    embedding = made.get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)
    odd = VOCAB - 1  # stands nowhere else
    token_BT = packed.batch.token_BT.clone()
    token_BT[token_BT == odd] = 6
    place = int(packed.scored_place_N[0])
    row, column = place // token_BT.shape[1], place % token_BT.shape[1]
    token_BT[row, column - 1] = odd
    with torch.no_grad():
        embedding.weight[odd] = math.nan
        made.lm_head = nn.Linear(64, VOCAB, bias=False)  # not the embedding any more
    batch = replace(packed.batch, token_BT=token_BT)
    with pytest.raises(LogProbError, match=rf"dialogue 0 of packed row {row}, turn 0, column"):
        backend(made).reference().logp(batch)
    here = (torch.tensor([row]), torch.tensor([column]))
    with pytest.raises(LogProbError, match="finite"):
        backend(made).reference().divergence(batch, here, here)


# Not compiled, flex attention is the same function, slowly, and says so; torch's compiler warns of
# torch's own scripts when it is loaded.
@pytest.mark.filterwarnings("ignore:flex_attention called without", "ignore:.torch.jit.script")
@pytest.mark.parametrize("model", ["qwen", "mistral", "gemma"])
def test_flex_attention_gives_what_the_dense_mask_gives(model: str) -> None:
    trunks, branches = story()
    packed = pack(trunks, branches[:8], max_tokens=120)
    with torch.compiler.set_stance("force_eager"):
        on = backend_for(model, "flex")
        found = values(on, packed)
    assert on.ways == {"flex": len(packed.batch.length_B)}
    assert on.base.model.config._attn_implementation in ("sdpa", "eager")  # as it was before
    for one, other in zip(found, values(backend_for(model, "mask"), packed), strict=True):
        assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("asked", "works", "longest", "on_gpu", "is_training", "way"),
    [
        ("auto", "flex cache mask crop", 90, False, False, "cache"),
        ("auto", "flex cache mask crop", LONG_TREE + 1, False, False, "crop"),
        ("auto", "flex cache mask crop", LONG_TREE + 1, True, False, "flex"),
        ("auto", "cache mask crop", LONG_TREE + 1, True, False, "cache"),
        ("auto", "mask", LONG_TREE + 1, False, False, "mask"),
        ("auto", "crop", 90, False, False, "crop"),
        ("auto", "", 90, False, False, "separate"),
        ("auto", "flex cache mask crop", 90, False, True, "mask"),
        ("auto", "flex cache mask crop", 90, True, True, "flex"),
        ("auto", "crop", 90, False, True, "separate"),
        ("mask", "mask cache", 90, False, False, "mask"),
        ("crop", "mask crop", 90, False, True, "mask"),
        ("separate", "separate mask", 90, False, True, "separate"),
    ],
)
def test_the_way_follows_from_capability_and_length(
    asked: Any, works: str, longest: int, on_gpu: bool, is_training: bool, way: str
) -> None:
    found = branch_way(
        asked, works.split().__contains__, longest=longest, on_gpu=on_gpu, is_training=is_training
    )
    assert found == way


def test_a_model_without_custom_masks_is_read_by_cutting_its_cache() -> None:
    made = qwen()

    def refuse(module: nn.Module, args: Any, kwargs: Any) -> None:
        if isinstance(kwargs.get("attention_mask"), Tensor) and kwargs["attention_mask"].ndim > 2:
            raise ValueError("no mask of ours")

    made.get_decoder().register_forward_pre_hook(refuse, with_kwargs=True)
    on = backend(made)
    trunks, branches = story()
    apart = values(backend_for("qwen", "separate"), separate(trunks, branches))
    assert on.capabilities.branches
    for found, wanted in zip(values(on, pack(trunks, branches, max_tokens=1)), apart, strict=True):
        assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert on.ways == {"crop": 4}


def test_a_recurrent_model_reads_every_context_apart() -> None:
    config = MambaConfig(vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, state_size=4)
    torch.manual_seed(0)
    made = MambaForCausalLM(config)
    on = backend(made)
    assert not on.capabilities.branches
    trunks, branches = story("compact")
    apart = values(on, separate(trunks, branches))
    for found, wanted in zip(values(on, pack(trunks, branches, max_tokens=1)), apart, strict=True):
        assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert on.ways == {"separate": 4}  # rows of separate() have no tree: they are plain
    with pytest.raises(ConfigError, match="MambaForCausalLM gives other numbers .* by 'mask'"):
        backend(made, branch_way="mask")


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected a branch_way of .*'crop'.* got 'quick'"):
        backend(branch_way="quick")


def test_a_window_is_not_left_to_a_model_that_counts_columns() -> None:
    with pytest.raises(ConfigError, match="'crop'"):
        backend(mistral(), branch_way="crop")


def test_another_attention_is_put_back_even_after_a_failure() -> None:
    made = qwen()
    with pytest.raises(KeyError), attention_of(made, "eager"):
        assert made.config._attn_implementation == "eager"
        raise KeyError
    assert made.config._attn_implementation == "sdpa"


def test_cutting_rows_apart_and_home_again_is_the_identity() -> None:
    packed = padded(LAYOUTS["two groups"](*story(opening=6)))
    batch = packed.batch
    marks_RS = torch.where(
        batch.written_BT, torch.arange(batch.token_BT.numel()).view_as(batch.token_BT), 0
    )
    for cut in (trees_apart(batch), paths_apart(batch)):
        inside_RS = cut.batch.written_BT
        moved_RS = marks_RS[cut.row_RS, cut.column_RS]
        assert torch.equal(cut.home(moved_RS), marks_RS)
        assert torch.equal(
            cut.batch.token_BT[inside_RS], batch.token_BT[cut.row_RS, cut.column_RS][inside_RS]
        )
        row_N, column_N = batch.written_BT.nonzero(as_tuple=True)
        now = cut.places((row_N, column_N))
        assert torch.equal(cut.batch.token_BT[now], batch.token_BT[row_N, column_N])
