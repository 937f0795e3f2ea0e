"""From the section [judge] to whoever weighs a run's turns."""

import asyncio
from collections.abc import Callable
from functools import partial

from turnwise.conversation import Trajectory
from turnwise.errors import ConfigError
from turnwise.judges import LLMJudge, RuleJudge
from turnwise.tasks import KnowsTruth
from turnwise.tasks.registry import AnyTask
from turnwise.training.config import JudgeConfig
from turnwise.training.judging import Jury, judge_endpoint
from turnwise.training.truth import informed_weights, scenario_seed


def build_judge(
    config: JudgeConfig, task: AnyTask, on_failure: Callable[[str], None] = lambda words: None
) -> Jury:
    """The jury that the config names. A language model is asked one short question at once, so
    that a wrong address, key or model is known before the first dialogue.

    on_failure: told once a step, in words, if dialogues of it could not be judged.
    Raises ConfigError for a task that does not know its truth with kind "rules"; for a missing
    address, model or key, or an endpoint that does not answer, with kind "llm".
    """
    if config.kind == "rules":
        return Jury(_rules_of(task), on_failure=on_failure)
    endpoint = judge_endpoint(config)
    asyncio.run(endpoint.check())
    judge = LLMJudge(endpoint, config.seed)
    return Jury(lambda trajectory: judge, endpoint.spent, on_failure)


def _rules_of(task: AnyTask) -> Callable[[Trajectory], RuleJudge]:
    if not isinstance(task, KnowsTruth):
        raise ConfigError(
            f'judge.kind = "rules" needs a task that knows what each turn told, and {task.name} '
            'does not; use judge.kind = "llm"'
        )

    def judge_of(trajectory: Trajectory) -> RuleJudge:
        scenario = task.scenario(scenario_seed(trajectory))
        return RuleJudge(partial(informed_weights, task, scenario, trajectory.seed))

    return judge_of
