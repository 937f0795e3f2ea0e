"""What `turnwise logs generate` does: sellers that are rules, or a model, keep logs of a task."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path

from turnwise.cli.assemble import ready
from turnwise.conversation import LoggedConversation
from turnwise.errors import ConfigError
from turnwise.iteration.config import CollectConfig
from turnwise.iteration.world import TaskWorld
from turnwise.records import write_logged, write_logged_jsonl
from turnwise.tasks.sell import make_sell
from turnwise.tasks.sell_logs import LogPolicy, LogShares, generate_logs, write_raw_logs


def of_sellers(
    task: str,
    preset: str,
    policy: LogPolicy,
    *,
    conversations: int,
    seed: int,
    shares: Mapping[str, float],
) -> Iterator[LoggedConversation]:
    """Logs of a task's sellers.

    shares: of each complication, where it is not the usual one. Raises ConfigError for a task that
    has no sellers, or a share that there is not.
    """
    if task != "sell":
        raise ConfigError(
            f"expected the task sell, found {task}; no other has sellers to log, name a --model"
        )
    known = [field.name for field in fields(LogShares) if field.type is float]
    unknown = sorted(shares.keys() - set(known))
    if unknown:
        raise ConfigError(f"expected --share of {', '.join(known)}, found {', '.join(unknown)}")
    own = LogShares(**shares)  # type: ignore[arg-type]  # floats, by the line above
    return generate_logs(make_sell(preset, {}), policy, conversations, seed, own)


def of_model(
    task: str, preset: str, model: str, version: str, *, conversations: int, seed: int
) -> Iterator[LoggedConversation]:
    """Logs of a model that was served to the users of a task.

    model: a run's folder, a model's folder or a hub id. version: what the logs call it. Another
    seed meets other scenarios, so that two arms share no customer. Raises as `ready`.
    """
    assembly, learners = ready(model, task, preset)
    world = TaskWorld(assembly.stage, CollectConfig(conversations=conversations), 0, seed)
    return world.collect(seed, learners.sampler, version)


def write(logs: Iterator[LoggedConversation], out: Path, *, is_raw: bool) -> list[Path]:
    """Writes the logs and returns the files. Raises ConfigError for a name that says no format."""
    if is_raw:
        table = out.with_suffix(".outcomes.csv")
        write_raw_logs(logs, out, table)
        return [out, table]
    writers = {".parquet": write_logged, ".jsonl": write_logged_jsonl}
    if out.suffix not in writers:
        raise ConfigError(f"expected --out to end in .parquet or .jsonl, found {out.name}")
    writers[out.suffix](out, logs)
    return [out]
