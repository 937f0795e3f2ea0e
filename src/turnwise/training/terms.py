"""Which credits a method adds up, with which weights, and what each of them needs."""

from typing import get_args

from turnwise.advantages import decayed_twice, decayed_weight
from turnwise.training.config import (
    BaselineName,
    CreditName,
    InfoConfig,
    JudgeConfig,
    MethodConfig,
    RunConfig,
    Schedule,
)

# Methods whose credit the implicit PRM gives.
NEEDS_PRM = frozenset({"prime", "itpo", "itpo-norm"})

# Of rloo: what a turn is compared with where the settings do not say.
_BASELINE: dict[CreditName, BaselineName] = {
    "itpo": "loo_turn_index",
    "prime": "loo_total",
    "value": "loo_turn_index",
    "lookahead": "own_turn",
    "oracle": "own_turn",
}


def credit_names(method: MethodConfig) -> tuple[CreditName, ...]:
    """The credits that a method adds up; infopo alone stands on the outcome.

    In one order however a sum was written: floating point sums depend on theirs.
    """
    if isinstance(method.credit, dict):
        return tuple(name for name in get_args(CreditName) if name in method.credit)
    return ("trajectory", "infopo") if method.credit == "infopo" else (method.credit,)


def credit_weights(method: MethodConfig, info: InfoConfig, step: int) -> dict[CreditName, float]:
    """The weight of each credit in a step (1, 2, …).

    Of infopo alone it is β_e = β·exp(−decay·(step − 1)): scenarios never repeat, so a step is an
    epoch. In a sum it is what the sum says.
    """
    if isinstance(method.credit, dict):
        return {name: _weight_at(method.credit[name], step) for name in credit_names(method)}
    if method.credit != "infopo":
        return {method.credit: 1.0}
    decayed = decayed_twice if info.decay_twice else decayed_weight
    return {"trajectory": 1.0, "infopo": decayed(info.beta, decay=info.decay, epoch=step - 1)}


def asked_credits(method: MethodConfig, info: InfoConfig, step: int) -> frozenset[CreditName]:
    """The credits that count in a step: for a weight of 0 nobody is asked anything."""
    weights = credit_weights(method, info, step)
    return frozenset(name for name, weight in weights.items() if weight > 0)


def _weight_at(weight: float | Schedule, step: int) -> float:
    if not isinstance(weight, Schedule):
        return weight
    done = min(1.0, (step - 1) / max(1, weight.steps - 1))
    return (1 - done) * weight.start + done * weight.end  # exact at both ends


def only(method: MethodConfig, name: CreditName) -> MethodConfig:
    """The method as if `name` were its one credit, with the baseline of that credit."""
    baseline = method.baseline
    if baseline == "auto":
        baseline = _BASELINE.get(name, "redistribute")
    return method.model_copy(update={"credit": name, "baseline": baseline})


def keeps_lone_outcomes(method: MethodConfig, info: InfoConfig) -> bool:
    """Whether a dialogue without siblings keeps its outcome as advantage, as in InfoPO's code."""
    is_infopo = "infopo" in credit_names(method)
    return is_infopo and method.estimator == "grpo" and info.group_of_one == "raw"


def turn_lambda(method: MethodConfig) -> float:
    """λ at a turn's end: as given, or what is usual for the estimator."""
    if method.turn_lambda != "auto":
        return method.turn_lambda
    return 0.95 if method.estimator == "ppo" else 0.5


def label(method: MethodConfig) -> str:
    """The method's credit in one word for records: "infopo", "itpo-norm+infopo"."""
    return "+".join(credit_names(method)) if isinstance(method.credit, dict) else method.credit


def needs_prm(config: RunConfig) -> bool:
    """Whether the run's method reads the implicit PRM."""
    names = set(credit_names(config.method))
    return bool(names & NEEDS_PRM) or config.method.estimator == "implicit-value"


def needs_critic(config: RunConfig) -> bool:
    """Whether the run's method reads a value function of its own."""
    return config.method.estimator == "ppo" or "value" in credit_names(config.method)


def missing_of_judge(judge: JudgeConfig) -> str:
    """The setting without which a language model cannot be asked; "" if none is missing."""
    if judge.kind == "rules":
        return ""
    return next((f"judge.{key}" for key in ("base_url", "model") if not getattr(judge, key)), "")
