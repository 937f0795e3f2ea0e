"""What the presets of Iterative PPO set, switch by switch.

`paper`: arXiv:2511.21638 v1, which states neither γ, β, network, data size nor number of rounds:
those numbers are ours. `iterative-grpo`: its later version. Source: section 9 of the method page.
"""

from typing import TypeVar

from turnwise.errors import ConfigError
from turnwise.iteration.config import GateConfig, ImproveConfig, IterateConfig, QConfig

Part = TypeVar("Part", QConfig, GateConfig, ImproveConfig)

_PAPER_BETA = 0.1
_PAPER_DISCOUNT = 0.99
_PAPER_Q: dict[str, object] = {"loss": "mse", "num_heads": 1, "targets": "mc", "pool": "drop"}
_OPTIMISER: dict[str, dict[str, object]] = {
    "paper": {"estimator": "ppo"},
    "iterative-grpo": {"estimator": "grpo", "num_generations": 8},
}


def resolved(config: IterateConfig) -> IterateConfig:
    """The config with every key that its preset decides, and that was not given, written out.

    Raises ConfigError for a preset that nobody can reproduce, or keys that do not go together.
    """
    if config.preset == "public-code":
        raise ConfigError(
            'preset = "public-code" is not there: the authors of Iterative PPO have published no '
            'code; use "paper" or "iterative-grpo"'
        )
    if config.preset != "default":
        improve = {"beta": _PAPER_BETA, **_OPTIMISER[config.preset]}
        given = config.model_fields_set
        discount = config.turn_discount if "turn_discount" in given else _PAPER_DISCOUNT
        config = config.model_copy(
            update={
                "turn_discount": discount,
                "q": _with_defaults(config.q, _PAPER_Q),
                "gate": _with_defaults(config.gate, {"mode": "warn"}),
                "improve": _with_defaults(config.improve, improve),
            }
        )
    _check(config)
    return config


def _check(config: IterateConfig) -> None:
    q, improve = config.q, config.improve
    if q.return_low >= q.return_high:
        raise ConfigError(
            f"expected q.return_low below q.return_high, found {q.return_low} and {q.return_high}"
        )
    if q.loss == "bce" and (q.return_low, q.return_high) != (0.0, 1.0) and q.head == "verdict":
        raise ConfigError('q.head = "verdict" says a probability: use returns from 0 to 1')
    if config.rollout.temperature != 1.0:
        raise ConfigError(
            f"expected rollout.temperature = 1 (another policy would be sampled than is scored), "
            f"found {config.rollout.temperature}"
        )
    if improve.reference == "initial" and config.gate.mode == "hard":
        raise ConfigError(
            'improve.reference = "initial" with a plain Q is not monotone (the reference has to be '
            'the policy that Q evaluates); use "round", or for a study set gate.mode = "warn"'
        )
    if improve.estimator in ("rloo", "grpo") and improve.num_generations < 2:
        raise ConfigError(
            f'improve.estimator = "{improve.estimator}" compares replies to one prompt: expected '
            f"improve.num_generations of at least 2, found {improve.num_generations}"
        )
    if config.world == "logs" and not config.logs.rounds:
        raise ConfigError(
            'world = "logs" needs logs.rounds = [["FILE.parquet", ...]]: what `turnwise logs '
            "import` wrote, round 0 first"
        )
    if config.world == "task" and config.logs.rounds:
        raise ConfigError('logs.rounds is read with world = "logs" only; found world = "task"')


def _with_defaults(section: Part, values: dict[str, object]) -> Part:
    """The section with `values` for the keys that were not given."""
    return section.model_copy(
        update={key: value for key, value in values.items() if key not in section.model_fields_set}
    )
