"""What `paper`, `public-code` and `default` set, switch by switch.

Source: section 7 of the ITPO method page and section 3 of the InfoPO one (docs/methods lists them).
"""

from typing import TypeVar

from turnwise.training.checks import check
from turnwise.training.config import (
    InfoConfig,
    MethodConfig,
    PrmConfig,
    RunConfig,
    TrainConfig,
)
from turnwise.training.terms import credit_names, only, turn_lambda

Part = TypeVar("Part", MethodConfig, InfoConfig, PrmConfig, TrainConfig)

_METHOD: dict[str, dict[str, object]] = {
    "default": {},  # the defaults of MethodConfig
    "paper": {
        "weight_temperature": 0.4,
        "scale": "none",
        "redistribution": "to_go",
        "blame": "same",
        "trust_mix": False,
        "baseline": "loo_total",
        "scaling_floor": 0.0,
        "length_penalty": 5e-5,
    },
    "public-code": {
        "logits": "mean_times_global_length",
        "weight_temperature": 0.4,
        "scale": "max_return",
        "redistribution": "to_go",
        "blame": "same",
        "trust_mix": False,
        "baseline": "masked_rloo",
        "scaling": "shift",
        "length_penalty": 5e-5,
        "penalty_count": "words_all_messages",
        "coef_prm": 5.0,
        "drop_last_token": True,
        "turn_source": "mask_runs",
    },
}

# What stands beside the information term: outcomes as they are, compared within the group.
_BESIDE_INFO: dict[str, dict[str, object]] = {
    "default": {"length_penalty": 0.0, "estimator": "grpo"},
    "paper": {"length_penalty": 0.0, "estimator": "grpo"},
    "public-code": {"length_penalty": 0.0, "estimator": "grpo"},
}

_INFO: dict[str, dict[str, object]] = {
    "default": {},  # the defaults of InfoConfig
    "paper": {"fill": "compact", "min_info_std": 0.0, "skip": 0.0},
    "public-code": {
        "fill": "pad_repeat",
        "statistics": "token_div_len",
        "validity": "nonzero",
        "cap": True,
        "decay_twice": True,
        "outcome": "sum_with_last_max",
        "group_of_one": "raw",
        "score_markup": True,
        "min_info_std": 0.0,
        "skip": 0.0,
    },
}

_PUBLISHED_PRM: dict[str, object] = {
    "mini_batch": 4,
    "shuffle": False,
    "bias": "none",
    "trust": False,
    "replay": 0,
}


def resolved(config: RunConfig) -> RunConfig:
    """The config with every key that its preset decides, and that was not given, written out.

    Raises ConfigError for a combination that makes no sense, naming the keys.
    """
    method, info, prm, train = config.method, config.info, config.prm, config.train
    if method.credit == "infopo":
        info = _with_defaults(info, _INFO[method.preset])
        if method.preset != "default":
            train = _with_defaults(train, {"beta": 0.0})
        method = _with_defaults(method, _BESIDE_INFO[method.preset])
    else:
        if method.preset != "default":
            prm = _with_defaults(prm, _PUBLISHED_PRM)
        method = _with_defaults(method, _METHOD[method.preset])
        if set(credit_names(method)) == {"trajectory", "infopo"}:  # infopo, spelled out
            method = _with_defaults(method, _BESIDE_INFO["default"])
        if method.preset == "public-code":
            train = _with_defaults(train, {"divisor": "per_dialogue_mean"})
            if method.credit == "trajectory":
                # Its trajectory baseline is the outcome alone, through the same code.
                method = _with_defaults(method, {"coef_outcome": 5.0, "coef_prm": 0.0})
    if prm.scores == "auto":
        scores = "prequential" if method.estimator == "implicit-value" else "post"
        prm = prm.model_copy(update={"scores": scores})
    sections = {"method": _spelled_out(method), "info": info, "prm": prm, "train": train}
    out = config.model_copy(update=sections)
    check(out)
    return out


def _spelled_out(method: MethodConfig) -> MethodConfig:
    """The method without "auto", but for what differs among several credits."""
    names = credit_names(method)
    values: dict[str, object] = {"turn_lambda": turn_lambda(method)}
    if not isinstance(method.credit, dict):
        values["baseline"] = only(method, names[0]).baseline
    if method.scaling == "auto":
        values["scaling"] = "none" if set(names) == {"trajectory", "infopo"} else "rms"
    return method.model_copy(update=values)


def _with_defaults(section: Part, values: dict[str, object]) -> Part:
    """The section with `values` for the keys that were not given."""
    return section.model_copy(
        update={key: value for key, value in values.items() if key not in section.model_fields_set}
    )
