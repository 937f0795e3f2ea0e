"""What `paper`, `public-code` and `default` set, switch by switch.

Source: the three columns of section 7 of the ITPO method page (docs/methods/itpo.md lists them).
"""

from typing import TypeVar

from turnwise.errors import ConfigError
from turnwise.training.config import MethodConfig, PrmConfig, RunConfig, TrainConfig

Part = TypeVar("Part", MethodConfig, PrmConfig, TrainConfig)

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
    method, prm, train = config.method, config.prm, config.train
    if method.preset != "default":
        prm = _with_defaults(prm, _PUBLISHED_PRM)
    method = _with_defaults(method, _METHOD[method.preset])
    if method.preset == "public-code":
        train = _with_defaults(train, {"divisor": "per_dialogue_mean"})
        if method.credit == "trajectory":
            # Its trajectory baseline is the outcome alone, through the same code.
            method = _with_defaults(method, {"coef_outcome": 5.0, "coef_prm": 0.0})
    if method.baseline == "auto":
        method = method.model_copy(
            update={"baseline": _BASELINE.get(method.credit, "redistribute")}
        )
    if prm.scores == "auto":
        scores = "prequential" if method.estimator == "implicit-value" else "post"
        prm = prm.model_copy(update={"scores": scores})
    out = config.model_copy(update={"method": method, "prm": prm, "train": train})
    _check(out)
    return out


_BASELINE = {"itpo": "loo_turn_index", "prime": "loo_total", "oracle": "own_turn"}

# Redistribution needs weights; an outcome alone has one advantage, which is loo_total's at turn 1.
_OF_WEIGHTS = ("redistribute", "loo_turn_index", "loo_total", "own_turn", "masked_rloo")
_OF_REWARDS = ("loo_turn_index", "loo_total", "own_turn", "masked_rloo")
_BASELINES = {
    "trajectory": ("redistribute", "loo_total", "masked_rloo"),
    "uniform": _OF_WEIGHTS,
    "random": _OF_WEIGHTS,
    "itpo-norm": _OF_WEIGHTS,
    "itpo": _OF_REWARDS,
    "oracle": _OF_REWARDS,
    "prime": ("loo_total", "masked_rloo"),
}


def _with_defaults(section: Part, values: dict[str, object]) -> Part:
    """The section with `values` for the keys that were not given."""
    return section.model_copy(
        update={key: value for key, value in values.items() if key not in section.model_fields_set}
    )


def _check(config: RunConfig) -> None:
    _check_siblings(config)
    _check_estimator(config)
    _check_baseline(config.method)
    _check_blame(config.method)
    _check_kl(config)
    rollout, train = config.rollout, config.train
    if rollout.max_turn_tokens > rollout.max_conversation_tokens:
        raise ConfigError(
            f"rollout.max_turn_tokens ({rollout.max_turn_tokens}) is larger than "
            f"rollout.max_conversation_tokens ({rollout.max_conversation_tokens}); lower it"
        )
    if train.num_mini_batches > train.num_problems:
        raise ConfigError(
            f"train.num_mini_batches ({train.num_mini_batches}) splits whole groups, but there are "
            f"only {train.num_problems} (train.num_problems)"
        )


def _check_siblings(config: RunConfig) -> None:
    method, siblings = config.method, config.train.num_generations
    if siblings < 2 and method.estimator in ("rloo", "grpo"):
        raise ConfigError(
            f"estimator {method.estimator} compares siblings and needs train.num_generations >= 2, "
            f"got {siblings}; raise it, or use estimator implicit-value with "
            'method.value_offset = "none"'
        )
    if siblings < 2 and method.value_offset == "group":
        raise ConfigError(
            'method.value_offset = "group" needs train.num_generations >= 2, got '
            f'{siblings}; set method.value_offset = "none"'
        )


def _check_estimator(config: RunConfig) -> None:
    method = config.method
    if method.estimator == "implicit-value":
        if method.credit not in ("trajectory", "itpo", "itpo-norm"):
            raise ConfigError(
                "estimator implicit-value credits turns by the implicit PRM's own values and the "
                f'outcome, so method.credit = "{method.credit}" would be ignored; use trajectory, '
                "itpo or itpo-norm (all the same here), or estimator rloo or grpo"
            )
        if config.prm.scores == "post":
            raise ConfigError(
                'estimator implicit-value needs prm.scores = "prequential", got "post": a value '
                "that has seen the dialogue's own outcome is no baseline"
            )
    if method.preset == "public-code" and method.estimator != "rloo":
        raise ConfigError(
            "the public code has one estimator: method.estimator = rloo with preset public-code, "
            f"got {method.estimator}; use preset paper or default"
        )
    if method.estimator == "grpo" and method.credit in ("prime", "oracle"):
        raise ConfigError(
            f"method.estimator = grpo is not defined for method.credit = {method.credit}: dense "
            "rewards have no single group std; use rloo"
        )


def _check_baseline(method: MethodConfig) -> None:
    """Of rloo alone: a baseline that the credit's form does not know would be ignored."""
    if method.estimator != "rloo":
        return
    allowed = _BASELINES[method.credit]
    if method.baseline not in allowed:
        raise ConfigError(
            f'method.baseline = "{method.baseline}" is not defined for method.credit = '
            f"{method.credit}; expected one of {', '.join(allowed)}, or auto"
        )
    sources = (method.coef_outcome, method.coef_prm if method.credit != "trajectory" else 0.0)
    if method.baseline == "masked_rloo" and not any(sources):
        raise ConfigError(
            'method.baseline = "masked_rloo" has nothing to learn from: with method.credit = '
            f"{method.credit}, method.coef_outcome = {method.coef_outcome} and method.coef_prm = "
            f"{method.coef_prm} every reward counts 0; raise one of the coefficients"
        )


def _check_blame(method: MethodConfig) -> None:
    if method.credit == "itpo-norm" and method.blame == "signed" and not method.trust_mix:
        raise ConfigError(
            'method.blame = "signed" needs method.trust_mix = true: it follows the PRM\'s ranking '
            'whatever the outcome, and an untrained PRM ranks at random; or use blame "same"'
        )


def _check_kl(config: RunConfig) -> None:
    train = config.train
    if train.beta > 0 and train.beta_in_reward > 0:
        raise ConfigError(
            f"expected one of train.beta ({train.beta}) and train.beta_in_reward "
            f"({train.beta_in_reward}) to be 0: the KL would count twice"
        )
    if train.beta_in_reward > 0 and config.method.baseline == "masked_rloo":
        raise ConfigError(
            f"train.beta_in_reward = {train.beta_in_reward} is read by no part of the published "
            'arithmetic (method.baseline = "masked_rloo"); use train.beta, or another baseline'
        )
