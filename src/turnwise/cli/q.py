"""`turnwise q`: fit a Q-function to logged conversations, and ask whether it can be trusted."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from turnwise.cli.errors_shown import errors_shown
from turnwise.cli.options import Debug, Json, Quiet
from turnwise.errors import ConfigError, GateError, RunFolderError

if TYPE_CHECKING:  # importing settings takes time that `turnwise --help` does not have
    from turnwise.iteration.config import IterateConfig

q_app = typer.Typer(
    help="Fit a Q-function to logged conversations, and check it.", no_args_is_help=True
)

_GATE_ALONE = ("gate", "judge")  # sections that a check reads and a fit does not


@q_app.command()
def fit(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CONFIG] [KEY=VALUE]...", help="A TOML file of `iterate`."),
    ] = None,
    logs: Annotated[
        list[Path] | None, typer.Option(help="Canonical Parquet; may be given several times.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A model's folder or a hub id.")] = None,
    out: Annotated[Path | None, typer.Option(help="The folder to make.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on where it stopped.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace what is there.")] = False,
    quiet: Quiet = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Fit two Q-functions, each to one half of the customers; `turnwise iterate` may go on."""
    stopped = "Every finished stage is intact; the same command with --resume goes on."
    with errors_shown(debug=debug, when_stopped=stopped):
        if resume and overwrite:
            raise ConfigError("expected --resume or --overwrite, found both; leave one out")
        exists: Literal["error", "overwrite", "resume"]
        exists = "resume" if resume else "overwrite" if overwrite else "error"
        config = settings_of(words or (), logs or (), model, out)

        # Importing the rounds takes seconds; a mistake in the settings is told before.
        from turnwise.cli.iterating import opened
        from turnwise.cli.progress import watching
        from turnwise.cli.results import as_json_line
        from turnwise.iteration import fit_first

        with watching(quiet=quiet, json=json) as observer:
            shop = opened(config, exists=exists, observer=observer)
            fit_first(shop)
        row = {"event": "result", "folder": str(shop.folder)}
        typer.echo(as_json_line(row) if json else shop.folder)


@q_app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="What `turnwise q fit` made.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="e.g. gate.judge=none")
    ] = None,
    warn: Annotated[bool, typer.Option("--warn", help="Exit 0 all the same; for studies.")] = False,
    quiet: Quiet = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Ask the gate on held-out customers; exit 4 where it refuses."""
    with errors_shown(debug=debug, when_stopped="no report was written"):
        config = checked_settings(folder, overrides or (), warn=warn)

        from turnwise.cli.iterating import workshop
        from turnwise.cli.progress import watching
        from turnwise.cli.tables import show_gate
        from turnwise.iteration import check_first
        from turnwise.records import replace_folder_atomically

        with watching(quiet=quiet, json=json) as observer:
            report = check_first(workshop(config, folder, observer))
        replace_folder_atomically(folder / "gate", report.save)
        show_gate(report, folder / "gate" / "gate.html", as_json=json)
        if not report.is_open and not report.is_ungated:
            raise GateError(report.gate.refusal)


def settings_of(
    words: Sequence[str], logs: Sequence[Path], model: str | None, out: Path | None
) -> "IterateConfig":
    """What a fit is told by a TOML file, overrides and options together.

    Raises ConfigError where neither a file nor logs and a model say what to fit to.
    """
    from turnwise.cli.settings import load_settings, with_overrides
    from turnwise.iteration.config import IterateConfig

    files = [word for word in words if "=" not in word]
    overrides = [word for word in words if "=" in word]
    if len(files) > 1:
        raise ConfigError(f"expected one TOML file, found {', '.join(files)}; leave one out")
    if not files and not (logs and model and out):
        raise ConfigError(
            "expected a TOML file, or --logs FILE with --model MODEL and --out FOLDER, found "
            "neither; give one of them"
        )
    config = (
        load_settings(IterateConfig, Path(files[0]), overrides)
        if files
        else with_overrides(IterateConfig(), overrides)
    )
    changes: dict[str, object] = {}
    if logs:
        rounds = [[str(file) for file in logs]]
        changes |= {"world": "logs", "logs": config.logs.model_copy(update={"rounds": rounds})}
    if model is not None:
        changes["model"] = config.model.model_copy(update={"name": model})
    if out is not None:
        changes["output_dir"] = str(out)
    return config.model_copy(update=changes)


def checked_settings(folder: Path, overrides: Sequence[str], *, warn: bool) -> "IterateConfig":
    """The settings that the fit was made with, changed where the gate alone reads them.

    Raises RunFolderError for a folder without a fit, ConfigError for keys of other sections.
    """
    from turnwise.cli.settings import load_settings
    from turnwise.iteration.config import IterateConfig

    for override in overrides:
        if override.partition(".")[0] not in _GATE_ALONE:
            raise ConfigError(
                f"{override}: expected a key of {' or '.join(_GATE_ALONE)}; the rest was settled "
                "when Q was fitted"
            )
    if not (folder / "config.toml").is_file():
        raise RunFolderError(
            f"expected a folder that `turnwise q fit` made, found no config.toml in {folder}; fit "
            "a Q-function first"
        )
    config = load_settings(IterateConfig, folder, overrides)
    mode = "warn" if warn else config.gate.mode
    gate = config.gate.model_copy(update={"mode": mode})
    return config.model_copy(update={"gate": gate, "output_dir": str(folder)})
