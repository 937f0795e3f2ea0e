"""Settings that make no sense together are refused by key and reason; all others run."""

import tomllib
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import get_args

import pytest
import torch

from tests.training.test_methods import evidence
from turnwise.errors import ConfigError
from turnwise.records import to_toml
from turnwise.training.config import CreditName, EstimatorName, PresetName, RunConfig
from turnwise.training.methods import token_advantages
from turnwise.training.presets import resolved

Keys = dict[str, dict[str, object]]
Pairs = Sequence[tuple[str, object]]
CREDIT_NAMES: tuple[CreditName, ...] = get_args(CreditName)


def config(pairs: Pairs) -> RunConfig:
    keys: Keys = {}
    for key, value in pairs:
        section, name = key.split(".")
        keys.setdefault(section, {})[name] = value
    return RunConfig.model_validate(keys)


ALONE = ("train.num_generations", 1)
PPO, GRPO = ("method.estimator", "ppo"), ("method.estimator", "grpo")
VALUES = ("method.estimator", "implicit-value")
INFOPO = ("method.credit", "infopo")
PUBLIC = ("method.preset", "public-code")
NORM = ("method.credit", "itpo-norm")
JUDGED = (("method.credit", "judge"), ("judge.kind", "llm"))


def gated(*names: str) -> Pairs:
    return [("method.credit", dict.fromkeys(names, 1.0)), ("method.gated", True)]


REFUSED: Sequence[tuple[Pairs, str, str]] = [
    # sums
    ([("method.credit", {})], "method.credit", "empty sum"),
    ([("method.credit", {"itpo": 1.0}), ("method.preset", "paper")], "method.preset", "a sum of"),
    ([("method.credit", {"infopo": 1.0}), PUBLIC], "method.preset", "one published method"),
    ([INFOPO, ("method.gated", True)], "method.gated", "needs a sum with trajectory"),
    (gated("trajectory"), "method.gated", "and another one"),
    (gated("itpo", "infopo"), "method.gated", "found itpo\\+infopo"),
    *[
        (gated("trajectory", name), "method.gated", f"{name}: it has no reward")
        for name in ("uniform", "random", "judge", "prime", "itpo-norm")
    ],
    *[
        ([("method.credit", {"trajectory": 1.0, "itpo": 1.0}), of], "method.credit", "one return")
        for of in (PPO, VALUES)
    ],
    # judges
    (JUDGED, "judge.kind", "needs judge.base_url"),
    ([*JUDGED, ("judge.base_url", "http://x/v1")], "judge.kind", "needs judge.model"),
    # information
    ([INFOPO, ("info.placeholder", "")], "info.placeholder", 'info.fill = "gap" puts it'),
    *[
        ([INFOPO, ("info.fill", "marginal"), ("info.score", score)], "info.score", "mean and sum")
        for score in ("k3", "full_kl")
    ],
    *[
        (
            [INFOPO, ("info.statistics", "token_div_len"), ("info.normalisation", how)],
            "info.normalisation",
            "a way to standardise",
        )
        for how in ("centre", "none")
    ],
    (
        [("method.credit", {"infopo": 1.0, "itpo": 1.0}), ("info.outcome", "sum_with_last_max")],
        "info.outcome",
        "no outcome in \\[0, 1\\].*also has itpo",
    ),
    ([INFOPO, GRPO, ALONE], "info.group_of_one", "compares the turns of siblings"),
    ([INFOPO, PPO, ALONE], "train.num_generations", "compares the turns of siblings"),
    ([INFOPO, ("info.placeholder", "  ")], "info.placeholder", "is empty"),
    ([("method.credit", {"infopo": 0.0, "itpo": 0.0})], "method.credit", "every weight"),
    # siblings
    ([ALONE], "train.num_generations", "rloo compares siblings"),
    ([NORM, GRPO, ALONE], "train.num_generations", "grpo compares siblings"),
    (
        [INFOPO, ALONE, ("info.group_of_one", "raw"), ("method.estimator", "rloo")],
        "train.num_generations",
        "rloo compares siblings",
    ),
    (
        [
            ("method.credit", {"uniform": 1.0, "infopo": 1.0}),
            GRPO,
            ALONE,
            ("info.group_of_one", "raw"),
        ],
        "train.num_generations",
        "grpo compares siblings",
    ),
    ([("method.credit", "lookahead"), PPO, ALONE], "train.num_generations", "from siblings"),
    ([VALUES, ALONE], "method.value_offset", 'value_offset = "none"'),
    # values
    ([("method.credit", "value"), PPO], "method.turn_lambda", "turn_lambda = 0"),
    *[
        ([("method.credit", name), VALUES], "method.credit", "would be ignored")
        for name in ("uniform", "random", "judge", "prime", "value", "lookahead", "oracle")
    ],
    ([VALUES, ("prm.scores", "post")], "prm.scores", "seen the dialogue's own outcome"),
    # estimators and baselines
    ([PUBLIC, GRPO], "method.estimator", "one estimator"),
    *[
        ([("method.credit", name), GRPO], "method.credit", "group std of their own")
        for name in ("prime", "value", "lookahead", "oracle")
    ],
    *[
        ([("method.credit", name), ("method.baseline", of)], "method.baseline", "expected one of")
        for name, of in (
            ("itpo", "redistribute"),
            ("prime", "own_turn"),
            ("prime", "redistribute"),
            ("trajectory", "loo_turn_index"),
            ("trajectory", "own_turn"),
            ("value", "masked_rloo"),
            ("lookahead", "masked_rloo"),
            ("oracle", "redistribute"),
        )
    ],
    (
        [("method.credit", "trajectory"), ("method.baseline", "masked_rloo")],
        "method.coef_outcome",
        "nothing to learn from",
    ),
    ([PUBLIC, ("method.coef_prm", 0.0)], "method.coef_prm", "nothing to learn from"),
    ([NORM, ("method.trust_mix", False)], "method.blame", "needs method.trust_mix = true"),
    # the rest of the loop
    (
        [("train.beta", 0.1), ("train.beta_in_reward", 0.1)],
        "train.beta_in_reward",
        "would count twice",
    ),
    (
        [("train.beta", 0.0), ("train.beta_in_reward", 0.1), PUBLIC],
        "train.beta_in_reward",
        "read by no part",
    ),
    ([("rollout.max_turn_tokens", 1000)], "rollout.max_conversation_tokens", "larger than"),
    ([("train.num_mini_batches", 17)], "train.num_problems", "whole groups"),
]


@pytest.mark.parametrize(("pairs", "key", "reason"), REFUSED)
def test_settings_that_make_no_sense_together_are_refused_by_key_and_reason(
    pairs: Pairs, key: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        resolved(config(pairs))
    assert key in str(caught.value)


@pytest.mark.parametrize(
    "pairs",
    [
        [VALUES, ALONE, ("method.value_offset", "none")],
        [PPO, ALONE],
        [INFOPO, GRPO, ALONE, ("info.group_of_one", "raw")],
        [INFOPO, PUBLIC, ALONE],
        [INFOPO, PPO, ALONE, ("info.group_of_one", "raw")],
        [INFOPO, ("info.placeholder", ""), ("info.fill", "drop")],
        [INFOPO, ("info.placeholder", ""), ("info.fill", "marginal"), ("info.score", "sum")],
        [("method.credit", {"trajectory": 1.0, "value": 0.5}), ("method.gated", True), PPO],
    ],
)
def test_their_neighbours_that_make_sense_are_not(pairs: Pairs) -> None:
    done = resolved(config(pairs))
    assert resolved(done) == done


def sums() -> Iterator[tuple[dict[str, object], EstimatorName, bool]]:
    for pair in combinations(CREDIT_NAMES, 2):
        for estimator in get_args(EstimatorName):
            for is_gated in (False, True):
                yield dict.fromkeys(pair, 0.5), estimator, is_gated


def test_every_sum_of_two_credits_runs_or_is_refused_with_its_reason() -> None:
    full, ran = evidence(), set()
    for credit, estimator, is_gated in sums():
        keys = {"credit": credit, "estimator": estimator, "gated": is_gated}
        try:
            done = resolved(RunConfig.model_validate({"method": keys}))
        except ConfigError as error:
            assert "method." in str(error)
            continue
        advantage_BT = token_advantages(full, done.method, done.info)
        assert bool(torch.isfinite(advantage_BT).all()), keys
        assert bool(advantage_BT.any()), keys
        assert not advantage_BT[~full.written_BT].any(), keys
        ran.add((*credit, estimator, is_gated))
    assert {one for one in ran if one[2] == "rloo" and not one[3]} == {
        (*pair, "rloo", False) for pair in combinations(CREDIT_NAMES, 2)
    }
    assert ("itpo-norm", "infopo", "ppo", False) in ran
    assert ("trajectory", "oracle", "grpo", True) in ran


SUMS: list[dict[str, object]] = [
    {"itpo-norm": 1.0, "infopo": 0.3},
    {"infopo": {"start": 0.5, "end": 0.0, "steps": 20}, "trajectory": 1},
    {"trajectory": 1.0, "judge": 0.5, "lookahead": {"start": 0.0, "end": 1.0, "steps": 3}},
    {"infopo": 1.0},
]


@pytest.mark.parametrize("preset", get_args(PresetName))
@pytest.mark.parametrize("credit", [*CREDIT_NAMES, *SUMS])
@pytest.mark.parametrize("estimator", get_args(EstimatorName))
def test_what_is_resolved_is_not_resolved_further_nor_by_way_of_its_file(
    credit: object, estimator: str, preset: str
) -> None:
    keys = {"credit": credit, "estimator": estimator, "preset": preset}
    try:
        done = resolved(RunConfig.model_validate({"method": keys}))
    except ConfigError:
        return  # by reason and key: above
    assert resolved(done) == done
    read = RunConfig.model_validate(tomllib.loads(to_toml(done.model_dump())))
    assert resolved(read) == done
    assert read.method.credit == done.method.credit
    assert "auto" not in (done.method.scaling, done.method.turn_lambda, done.prm.scores)
    assert (done.method.baseline == "auto") == isinstance(credit, dict)


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("default", ("gap", "turn", "mask", False, False, "outcome", "error", False, 1e-3, 1e-3)),
        ("paper", ("compact", "turn", "mask", False, False, "outcome", "error", False, 0.0, 0.0)),
        (
            "public-code",
            (
                "pad_repeat", "token_div_len", "nonzero", True, True, "sum_with_last_max", "raw",
                True, 0.0, 0.0,
            ),
        ),
    ],
)  # fmt: skip
def test_the_columns_of_infopos_page(preset: str, expected: tuple[object, ...]) -> None:
    done = resolved(config([INFOPO, ("method.preset", preset)]))
    info = done.info
    assert (
        info.fill,
        info.statistics,
        info.validity,
        info.cap,
        info.decay_twice,
        info.outcome,
        info.group_of_one,
        info.score_markup,
        info.min_info_std,
        info.skip,
    ) == expected
    assert (info.score, info.beta, info.gate_temperature) == ("mean", 0.5, 0.5)
    is_published = preset != "default"
    assert done.method.estimator == "grpo"
    assert (done.train.beta == 0.0) == is_published
    assert (done.method.scaling, done.method.length_penalty) == ("none", 0.0)


def test_a_preset_of_infopo_leaves_what_was_given() -> None:
    given = [INFOPO, PUBLIC, ("info.fill", "gap"), ("info.cap", False), ("train.beta", 0.01)]
    done = resolved(config([*given, ("method.estimator", "rloo"), ("method.scaling", "rms")]))
    assert (done.info.fill, done.info.cap, done.train.beta) == ("gap", False, 0.01)
    assert (done.method.estimator, done.method.scaling) == ("rloo", "rms")
    assert done.info.statistics == "token_div_len"
