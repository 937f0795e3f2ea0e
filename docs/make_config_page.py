"""Writes docs/config.md, the page of all settings, from the models that check them.

python docs/make_config_page.py
"""

from pathlib import Path

from turnwise.cli.fields import Setting, sections, settings

PAGE = Path(__file__).with_name("config.md")

HEAD = """# Settings

Every key of a run's TOML file. This page is generated from the models that check the file
(`make docs` writes it again).

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


def page() -> str:
    """The whole page as Markdown."""
    parts = [HEAD, _table("The top of the file", "", "")]
    parts += [_table(f"`[{name}]`", name, text) for name, text in sections().items()]
    return "\n".join(parts)


def _table(title: str, section: str, text: str) -> str:
    rows = [_row(setting) for setting in settings().values() if setting.section == section]
    intro = f"\n{' '.join(text.split())}\n" if text else ""
    head = "| key | allowed | default | meaning |\n| --- | --- | --- | --- |"
    return "\n".join([f"## {title}", intro, head, *rows, ""])


def _row(setting: Setting) -> str:
    allowed = setting.allowed.replace("|", "\\|")
    return f"| `{setting.name}` | {allowed} | `{setting.default}` | {setting.description} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
