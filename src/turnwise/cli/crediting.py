"""`turnwise credit`: several methods credit the same saved dialogues; nothing learns."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from turnwise.analysis import credit_study, render_credit_page
from turnwise.cli.assemble import Assembly, Origin, learners_of, on_its_task, origin_of
from turnwise.cli.credit_by_q import with_q_credit
from turnwise.cli.credit_sources import NEED_OUTCOMES, check_sources, checked_names, sources_of
from turnwise.cli.results import CreditResult, without_nan
from turnwise.cli.saved_dialogues import chosen, place_of, read_saved, tokenised
from turnwise.cli.settings import with_overrides
from turnwise.conversation import Outcome, Trajectory
from turnwise.errors import ConfigError, RecordError, RunFolderError
from turnwise.records import Record, write_text_atomically, write_trajectories
from turnwise.records.trajectories import Split
from turnwise.training.checkpoints import load_checkpoint, newest_step
from turnwise.training.config import CreditName, MethodConfig, RunConfig, TaskConfig
from turnwise.training.gather import survey
from turnwise.training.inspect import credit_records
from turnwise.training.learners import Learners
from turnwise.training.observer import Observer, Silent
from turnwise.training.presets import resolved
from turnwise.training.truth import truth

_MAY_CHANGE = ("info", "judge", "lookahead", "method")  # what a credit reads, not what was trained


def credit(
    source: str | Path,
    *,
    methods: Sequence[str],
    model: str | None = None,
    task: str | None = None,
    preset: str | None = None,
    overrides: Sequence[str] = (),
    q: Path | None = None,
    output: Path | None = None,
    split: Split | None = None,
    limit: int | None = None,
    observer: Observer | None = None,
) -> CreditResult:
    """Credits saved dialogues with each of the methods and writes what they say together.

    source: the folder of a run (split says which of its dialogues; default the newest of training),
    a Parquet file of dialogues, or JSONL with one conversation a line. model: a run or a model that
    credits them; needed unless source is a run. task, preset: what the dialogues were played on,
    default the run's own. overrides: of the sections info, judge, lookahead and method. q: folder
    of `turnwise q fit` or `turnwise iterate`, for the method q. limit: dialogues, rounded up to
    whole groups. output: folder of credit.parquet, agreement.json and credit.html.
    Raises ConfigError for a method that is unknown, comes twice, or has no source here; RecordError
    for dialogues that cannot be read. Nothing is written then.
    """
    observer = observer or Silent()
    names = checked_names(methods)
    place = place_of(source, split)
    folder = output or place.results
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"expected a folder at {folder}, found a file; choose another output")
    name = model or (str(place.run.path) if place.run else None)
    if name is None:
        raise ConfigError(
            f"{place.file} does not say which model credits it; give a run or a model as --model"
        )
    origin = _origin(name, task, preset)
    others = [name for name in names if name != "q"]
    config = _settings(origin.config, others, overrides)
    saved = read_saved(place.file)
    needs_outcome = not NEED_OUTCOMES.isdisjoint(names)
    kept, left_out = chosen(saved, needs_outcome=needs_outcome, limit=limit)
    has_task = origin.folder is not None or task is not None
    sources = sources_of(origin, config, kept or saved, has_task=has_task, has_q=q is not None)
    check_sources(names, sources)
    if not kept:
        raise RecordError(f"no dialogue of {place.file} can be credited; left out: {left_out}")

    observer.phase("load the model")
    assembly = on_its_task(origin)
    assembly = replace(assembly, config=config.model_copy(update={"task": origin.task}))
    learners = _learners(assembly, origin, others, observer)
    trajectories = tokenised(kept, place.file, assembly.stage, learners.policy)
    credited = _credited(
        assembly, learners, trajectories, others, observer.phase, knows_truth=sources.knows_truth
    )
    if q is not None and "q" in names:
        observer.phase("Q")
        credited = with_q_credit(credited, q)
    records = [
        replace(record, step=one.step, split=one.split)
        for record, one in zip(credited, kept, strict=True)
    ]
    observer.phase("page")
    result = CreditResult(folder, str(place.file), name, left_out, credit_study(records, names))
    _write(result, records)
    return result


def _origin(name: str, task: str | None, preset: str | None) -> Origin:
    """A model may stand alone: where no task is named, no dialogue is taken to be of one."""
    is_run = (Path(name) / "config.toml").is_file()
    if preset and not task and not is_run:
        raise ConfigError(f"--preset {preset} is of a task, and {name} is no run; add --task")
    return origin_of(name, task if task or is_run else TaskConfig().name, preset)


def _settings(own: RunConfig, names: Sequence[CreditName], overrides: Sequence[str]) -> RunConfig:
    """The run's settings, changed where a credit reads them.

    Raises ConfigError for keys of other sections, unknown keys and information settings that make
    no sense together.
    """
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key.partition(".")[0] not in _MAY_CHANGE or key == "method.credit":
            raise ConfigError(
                f"{override}: expected a key of {', '.join(_MAY_CHANGE)}; which credits are given "
                "is said by --methods, and the rest was settled when the model was trained"
            )
    config = with_overrides(own, overrides)
    if "infopo" in names:
        resolved(RunConfig(method=MethodConfig(credit="infopo"), info=config.info))
    return config


def _learners(
    assembly: Assembly, origin: Origin, names: Sequence[CreditName], observer: Observer
) -> Learners:
    """The models that the methods ask, as the run's newest checkpoint has them."""
    weights = dict.fromkeys(names or ["trajectory"], 1.0)
    method = assembly.config.method.model_copy(update={"credit": weights, "estimator": "rloo"})
    config = assembly.config.model_copy(update={"method": method})
    learners = learners_of(replace(assembly, config=config), observer)
    if origin.folder is not None:
        load_checkpoint(origin.folder, newest_step(origin.folder), learners)
    return learners


def _credited(
    assembly: Assembly,
    learners: Learners,
    trajectories: Sequence[Trajectory],
    names: Sequence[CreditName],
    on_source: Callable[[str], None],
    *,
    knows_truth: bool,
) -> list[Record]:
    """The records of all dialogues, with credit by each name."""
    # Dialogues without an outcome are here only if no method reads one.
    judged = [
        one if one.outcome.score is not None else replace(one, outcome=Outcome(0.0))
        for one in trajectories
    ]
    stage, config = assembly.stage, assembly.config
    evidence = asyncio.run(survey(stage, learners, config, judged, names, on_source))
    exact = None
    if knows_truth:
        on_source("truth")
        exact = truth(stage, judged, evidence.is_turn_BK)
        evidence = replace(evidence, oracle_BK=None if exact is None else exact.oracle_BK)
    records = credit_records(config, evidence, exact, judged, names, 0, "train")
    if all(one.outcome.score is not None for one in trajectories):
        return records
    return [
        replace(record, trajectory=one, group_measures={})
        for record, one in zip(records, trajectories, strict=True)
    ]


def _write(result: CreditResult, records: Sequence[Record]) -> None:
    page = render_credit_page(
        records,
        result.study,
        source=result.source,
        model=result.model,
        left_out=result.left_out,
    )
    write_trajectories(result.folder / "credit.parquet", records)
    found = {"source": result.source, "model": result.model, "left_out": result.left_out}
    text = json.dumps(without_nan(found | result.study.as_dict()), indent=1)
    write_text_atomically(result.folder / "agreement.json", text + "\n")
    write_text_atomically(result.page, page)
