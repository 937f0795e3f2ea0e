"""What the presets set, and what they refuse."""

import pytest

from turnwise.errors import ConfigError
from turnwise.iteration.config import ImproveConfig, IterateConfig, LogsConfig, QConfig
from turnwise.iteration.presets import resolved
from turnwise.training.config import RolloutConfig


def test_the_default_preset_changes_nothing() -> None:
    assert resolved(IterateConfig()) == IterateConfig()


def test_the_paper_is_one_regression_head_a_warning_gate_and_a_fixed_beta() -> None:
    found = resolved(IterateConfig(preset="paper"))
    assert (found.q.loss, found.q.num_heads, found.q.targets) == ("mse", 1, "mc")
    assert (found.gate.mode, found.turn_discount, found.improve.estimator) == ("warn", 0.99, "ppo")
    assert found.improve.beta == 0.1


def test_its_later_version_is_grpo_with_eight_replies() -> None:
    found = resolved(IterateConfig(preset="iterative-grpo")).improve
    assert (found.estimator, found.num_generations, found.scale_rewards) == ("grpo", 8, "round")


def test_what_was_given_stays() -> None:
    given = IterateConfig(preset="paper", turn_discount=0.9, q=QConfig(loss="bce"))
    assert (resolved(given).turn_discount, resolved(given).q.loss) == (0.9, "bce")


def test_resolving_twice_changes_nothing() -> None:
    once = resolved(IterateConfig(preset="paper"))
    assert resolved(once) == once


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (IterateConfig(preset="public-code"), "published no code"),
        (IterateConfig(q=QConfig(return_low=1.0)), "q.return_low"),
        (IterateConfig(rollout=RolloutConfig(temperature=0.7)), "rollout.temperature"),
        (IterateConfig(improve=ImproveConfig(reference="initial")), "not monotone"),
        (IterateConfig(improve=ImproveConfig(num_generations=1)), "num_generations"),
        (IterateConfig(world="logs"), "logs.rounds"),
        (IterateConfig(logs=LogsConfig(rounds=[["a.parquet"]])), "logs.rounds"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(config: IterateConfig, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        resolved(config)
