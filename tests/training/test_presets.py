"""What a preset sets and what it leaves alone; what makes no sense together is in test_checks."""

import pytest
from pydantic import ValidationError

from turnwise.training.config import RunConfig
from turnwise.training.presets import resolved

Keys = dict[str, dict[str, object]]


def config(keys: Keys) -> RunConfig:
    return RunConfig.model_validate(keys)


def one(key: str, value: object) -> Keys:
    section, name = key.split(".")
    return {section: {name: value}}


def test_the_default_preset_is_the_defaults() -> None:
    plain, done = RunConfig(), resolved(RunConfig())
    assert done.train == plain.train
    kept = {"baseline", "scores", "turn_lambda", "scaling"}  # those that are spelled out
    for section in ("method", "prm"):
        expected = getattr(plain, section).model_dump(exclude=kept)
        assert getattr(done, section).model_dump(exclude=kept) == expected


def test_infopo_spelled_out_as_a_sum_has_the_same_settings() -> None:
    alone = resolved(config(one("method.credit", "infopo")))
    summed = resolved(config(one("method.credit", {"trajectory": 1.0, "infopo": 0.5})))
    differ = {"credit", "baseline"}  # a sum has no baseline of its own
    assert summed.method.model_dump(exclude=differ) == alone.method.model_dump(exclude=differ)
    assert (summed.info, summed.train) == (alone.info, alone.train)
    given: Keys = {"method": {"credit": {"trajectory": 1.0, "infopo": 0.5}, "length_penalty": 1e-4}}
    assert resolved(config(given)).method.length_penalty == 1e-4


def test_a_preset_leaves_what_was_given() -> None:
    keys: Keys = {
        "method": {"preset": "public-code", "weight_temperature": 0.7, "scaling": "rms"},
        "prm": {"mini_batch": 8},
        "train": {"divisor": "tokens"},
    }
    done = resolved(config(keys))
    assert (done.method.weight_temperature, done.method.scaling) == (0.7, "rms")
    assert (done.prm.mini_batch, done.train.divisor) == (8, "tokens")
    assert (done.method.baseline, done.prm.trust) == ("masked_rloo", False)


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("default", ("batch_std", "direct", True, "rms", 0.1, "learned", 16, "tokens", 4e-5)),
        ("paper", ("none", "to_go", False, "rms", 0.0, "none", 4, "tokens", 5e-5)),
        (
            "public-code",
            ("max_return", "to_go", False, "shift", 0.1, "none", 4, "per_dialogue_mean", 5e-5),
        ),
    ],
)
def test_the_columns_of_the_methods_page(preset: str, expected: tuple[object, ...]) -> None:
    done = resolved(config(one("method.preset", preset)))
    method, prm = done.method, done.prm
    assert (
        method.scale,
        method.redistribution,
        method.trust_mix,
        method.scaling,
        method.scaling_floor,
        prm.bias,
        prm.mini_batch,
        done.train.divisor,
        method.length_penalty,
    ) == expected
    published = preset != "default"
    assert (prm.trust, prm.shuffle, prm.replay == 0) == (not published, not published, published)


def test_values_that_saw_the_outcome_are_never_a_baseline() -> None:
    done = resolved(config(one("method.estimator", "implicit-value")))
    assert done.prm.scores == "prequential"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("method.weight_temperature", 0.0),
        ("method.weight_temperature", -1.0),
        ("method.dirichlet_alpha", 0.0),
        ("method.turn_discount", 1.1),
        ("method.turn_discount", -0.1),
        ("method.turn_lambda", 1.1),
        ("method.length_power", -0.1),
        ("method.length_power", 1.5),
        ("method.scaling_floor", -0.1),
        ("method.length_penalty", -1e-5),
        ("prm.beta", 0.0),
        ("prm.beta", -0.1),
        ("prm.mini_batch", 0),
        ("train.dual_clip", 1.0),
        ("train.epsilon", 0.0),
        ("train.num_generations", 0),
        ("rollout.temperature", 0.0),
        ("eval.num_scenarios", 0),
        ("method.credit", "itpo_norm"),
        ("train.steps", 10),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_key(key: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        config(one(key, value))
    found = {".".join(map(str, error["loc"])) for error in caught.value.errors()}
    # Of a key that takes several types pydantic names the type that was tried behind it.
    assert all(name == key or name.startswith(f"{key}.") for name in found)
