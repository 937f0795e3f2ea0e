"""Which methods can credit which dialogues, and what the others lack."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from turnwise.cli.assemble import Origin
from turnwise.cli.saved_dialogues import Saved
from turnwise.cli.settings import did_you_mean
from turnwise.errors import ConfigError
from turnwise.tasks import KnowsTruth
from turnwise.tasks.registry import AnyTask, make
from turnwise.training.config import CreditName, RunConfig
from turnwise.training.terms import NEEDS_PRM, missing_of_judge, needs_critic, needs_prm

NEED_OUTCOMES = frozenset(
    {"trajectory", "uniform", "random", "judge", "itpo-norm", "value", "lookahead"}
)
MethodName = CreditName | Literal["q"]  # Q − V credits saved turns; no run is trained on it
_KNOWN: tuple[MethodName, ...] = (*get_args(CreditName), "q")


@dataclass(frozen=True)
class Sources:
    """What there is to credit dialogues with, and what the dialogues hold."""

    model: str  # the run or model that credits
    has_prm: bool
    has_critic: bool
    task: str  # what the dialogues are said to be of; "": nobody said
    is_of_task: bool  # every one of them is
    knows_truth: bool  # and the task knows the truth of them
    judges_by_truth: bool  # judge.kind = "rules"
    judge_lacks: str  # setting that judge.kind = "llm" needs and does not have; ""
    has_outcomes: bool  # at least one
    has_siblings: bool  # every one
    has_feedback: bool  # at least one
    has_q: bool = False  # somebody said which Q-function


def checked_names(methods: Sequence[str]) -> list[MethodName]:
    """The methods as they are known. Raises ConfigError for one that is not, or comes twice."""
    names = [name.strip() for name in methods]
    if not any(names):
        raise ConfigError(
            f"expected methods such as itpo-norm,infopo; there are {', '.join(_KNOWN)}"
        )
    for name in names:
        if name not in _KNOWN:
            hint = did_you_mean(name, _KNOWN)
            raise ConfigError(f'unknown method "{name}"; there are {", ".join(_KNOWN)}{hint}')
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"expected each method once, found {twice} twice in {','.join(names)}")
    return cast(list[MethodName], names)


def sources_of(
    origin: Origin,
    config: RunConfig,
    dialogues: Sequence[Saved],
    *,
    has_task: bool,
    has_q: bool = False,
) -> Sources:
    """What decides. has_task: somebody said which task the dialogues are of. has_q: where a
    Q-function is."""
    is_run, said = origin.folder is not None, origin.task
    task = make(said.name, said.preset, said.knobs)
    is_of_task = has_task and all(_is_of(task, one) for one in dialogues)
    groups = [one.dialogue.group_id for one in dialogues]
    return Sources(
        model=str(origin.folder.path) if origin.folder else origin.config.model.name,
        has_prm=is_run and needs_prm(origin.config),
        has_critic=is_run and needs_critic(origin.config),
        task=f"{said.name} {said.preset}" if has_task else "",
        is_of_task=is_of_task,
        knows_truth=is_of_task and isinstance(task, KnowsTruth),
        judges_by_truth=config.judge.kind == "rules",
        judge_lacks=missing_of_judge(config.judge),
        has_outcomes=any(one.has_outcome for one in dialogues),
        has_siblings=all(groups.count(group) > 1 for group in set(groups)),
        has_feedback=any(one.has_feedback for one in dialogues),
        has_q=has_q,
    )


def _is_of(task: AnyTask, saved: Saved) -> bool:
    """Whether a dialogue is of one of the task's scenarios: its id and first words tell."""
    dialogue = saved.dialogue
    number = dialogue.scenario_id.rpartition("-")[2]
    if not (number.isascii() and number.isdecimal()):
        return False
    scenario = task.scenario(int(number))
    opening = task.opening(scenario)
    is_same = scenario.id == dialogue.scenario_id
    return is_same and dialogue.conversation[: len(opening)] == opening


def check_sources(names: Sequence[MethodName], sources: Sources) -> None:
    """Raises ConfigError with a line for each method that cannot be, and those that can."""
    lacking = [(name, what) for name in names if (what := lack(name, sources))]
    if lacking:
        lines = [f"method {name} {what}" for name, what in lacking]
        possible = [name for name in _KNOWN if not lack(name, sources)]
        lines.append(f"possible here: {', '.join(possible) or 'none'}")
        raise ConfigError("\n".join(lines))


def lack(name: MethodName, sources: Sources) -> str:
    """What a method needs and does not have, with what would help; "" where nothing is missing."""
    if name in NEED_OUTCOMES and not sources.has_outcomes:
        return "credits the outcome, and no dialogue has one; say how each ended"
    if name in NEEDS_PRM and not sources.has_prm:
        return (
            f"needs an implicit reward model, and {sources.model} has none; give a run that was "
            "trained with itpo, itpo-norm or prime as --model"
        )
    if name == "value" and not sources.has_critic:
        return (
            f"needs a critic, and {sources.model} has none; give a run that was trained with "
            "estimator ppo or credit value as --model"
        )
    if name == "oracle" and not sources.knows_truth:
        return f"needs a task that knows the exact credit; {_about_task(sources)}"
    if name == "judge" and sources.judges_by_truth and not sources.knows_truth:
        return (
            f"with judge.kind=rules needs a task that knows the truth; {_about_task(sources)}, or "
            "use judge.kind=llm"
        )
    if name == "judge" and sources.judge_lacks:
        return f"with judge.kind=llm needs {sources.judge_lacks}; give it, or use judge.kind=rules"
    if name == "lookahead" and not sources.is_of_task:
        return f"plays dialogues on and needs their task; {_about_task(sources)}"
    if name == "lookahead" and not sources.has_siblings:
        return (
            "takes the value before the first turn from siblings, and a dialogue here has none; "
            "give dialogues of training"
        )
    if name == "q" and not sources.has_q:
        return "needs a fitted Q-function; make one by `turnwise q fit` and give its folder as --q"
    if name == "infopo" and not sources.has_feedback:
        return (
            "compares what followed a reply with what would have followed without it, and no "
            "dialogue here has a reply between two turns"
        )
    return ""


def _about_task(sources: Sources) -> str:
    if not sources.task:
        return "say with --task and --preset what the dialogues are of"
    if not sources.is_of_task:
        return f"these dialogues are not all of {sources.task}: see --task and --preset"
    return f"{sources.task} does not"
