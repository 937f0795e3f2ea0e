"""Writes the pages of all settings from the models that check them.

docs/config.md has those of `turnwise train`, docs/config_iterate.md those of `turnwise iterate`.

python docs/make_config_page.py
"""

from collections.abc import Mapping
from pathlib import Path

from turnwise.cli.fields import Setting, sections, settings
from turnwise.iteration.config import IterateConfig
from turnwise.training.config import RunConfig, Section

FOLDER = Path(__file__).parent

TRAIN = """# Settings

Every key of a run's TOML file. This page is generated from the models that check the file
(`make docs` writes it again). [`turnwise iterate` has its own](config_iterate.md).

A run reads one TOML file and any number of overrides, which win:

```
turnwise train recipes/clarify_itpo.toml train.max_steps=20 method.credit=trajectory
```

An override's value is TOML (`3`, `1e-3`, `true`, `"text"`); text needs no quotes. `none` takes a
setting back to nothing where nothing is allowed. Unknown keys are errors, and so are values of
another type: `"10"` is not `10`. The preset decides every key of `[method]`, `[prm]` and `[train]`
in which presets differ, unless the file gives that key; `turnwise methods` lists them side by
side. A run's own `config.toml` holds everything resolved.
"""

ITERATE = """# Settings of `turnwise iterate`

Every key of the TOML file that `turnwise iterate` and `turnwise q fit` read. This page is generated
from the models that check the file (`make docs` writes it again).

```
turnwise iterate recipes/iterative_ppo.toml rounds=1 collect.conversations=500
turnwise q fit recipes/logs_to_policy.toml model.name=FOLDER_OR_HUB_ID
```

Overrides, errors and `none` are as on the [page of `turnwise train`](config.md), with which the
tables `[model]`, `[warm_start]`, `[task]`, `[rollout]` and `[judge]` are shared. `preset` decides
`turn_discount` and keys of `[q]`, `[gate]` and `[improve]`, unless the file gives them. With
`--resume` only `output_dir`, `num_threads`, `rounds` and `logs.rounds` may differ from what the
folder was made with.
"""

PAGES: Mapping[str, tuple[str, type[Section]]] = {
    "config.md": (TRAIN, RunConfig),
    "config_iterate.md": (ITERATE, IterateConfig),
}


def page(head: str, model: type[Section]) -> str:
    """A whole page as Markdown."""
    parts = [head, _table(model, "The top of the file", "", "")]
    parts += [_table(model, f"`[{name}]`", name, text) for name, text in sections(model).items()]
    return "\n".join(parts)


def _table(model: type[Section], title: str, section: str, text: str) -> str:
    rows = [_row(setting) for setting in settings(model).values() if setting.section == section]
    intro = f"\n{' '.join(text.split())}\n" if text else ""
    head = "| key | allowed | default | meaning |\n| --- | --- | --- | --- |"
    return "\n".join([f"## {title}", intro, head, *rows, ""])


def _row(setting: Setting) -> str:
    allowed = setting.allowed.replace("|", "\\|")
    default = setting.default.replace("\n", "\\n")
    return f"| `{setting.name}` | {allowed} | `{default}` | {setting.description} |"


if __name__ == "__main__":
    for name, (head, model) in PAGES.items():
        (FOLDER / name).write_text(page(head, model), encoding="utf-8")
