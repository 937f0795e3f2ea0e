"""Every setting of a run by its dotted key: what it may be, what it is by default, what it does.

Read from the models that check the file (training/config.py, iteration/config.py), for error
messages and for the page of settings.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from turnwise.training.config import RunConfig, Section

Schema = Mapping[str, Any]  # JSON schema: pydantic's own description of a model


@dataclass(frozen=True)
class Setting:
    """One key of a run's TOML file."""

    key: str  # "train.max_steps"
    allowed: str  # "an integer of at least 1"
    default: str  # as TOML; "none" where nothing is the default
    description: str  # may be empty
    choices: tuple[str, ...]  # the only texts allowed; empty if any is
    is_text: bool  # takes text and nothing else
    is_number: bool
    is_optional: bool  # may be none
    is_table: bool  # holds keys of the user's choice

    @property
    def section(self) -> str:
        """The table it stands in; "" at the top."""
        return self.key.rpartition(".")[0]

    @property
    def name(self) -> str:
        """The last part of its key."""
        return self.key.rpartition(".")[2]


@cache
def settings(model: type[Section] = RunConfig) -> Mapping[str, Setting]:
    """All settings by dotted key, in the order of the file that `model` checks."""
    schema = model.model_json_schema()
    found: dict[str, Setting] = {}
    for name, field in schema["properties"].items():
        if "$ref" not in field:
            found[name] = _setting(name, field)
            continue
        section = schema["$defs"][field["$ref"].rpartition("/")[2]]
        given = field.get("default", {})  # a model may set a section's defaults in its own way
        for inner, inner_field in section["properties"].items():
            key = f"{name}.{inner}"
            default = given.get(inner, inner_field.get("default"))
            found[key] = _setting(key, {**inner_field, "default": default})
    return found


@cache
def sections(model: type[Section] = RunConfig) -> Mapping[str, str]:
    """What each table of the file is about; "" where its model does not say."""
    schema = model.model_json_schema()
    inherited = schema.get("description", "")
    out = {}
    for name, field in schema["properties"].items():
        if "$ref" in field:
            text = schema["$defs"][field["$ref"].rpartition("/")[2]].get("description", "")
            out[name] = "" if text == inherited else str(text)
    return out


def _setting(key: str, field: Schema) -> Setting:
    forms = field.get("anyOf", [field])
    real = [form for form in forms if form.get("type") != "null"]
    types = {form.get("type") for form in real}
    return Setting(
        key=key,
        allowed=" or ".join(_allowed(form) for form in forms),
        default=_toml({} if types == {"object"} else field.get("default")),
        description=str(field.get("description", "")),
        choices=tuple(str(choice) for form in real for choice in form.get("enum", ())),
        is_text=types == {"string"},
        is_number=bool(types & {"number", "integer"}),
        is_optional=len(real) < len(forms),
        is_table=types == {"object"},
    )


def _allowed(form: Schema) -> str:
    if "const" in form:
        return f'"{form["const"]}"'
    if "enum" in form:
        return "one of " + ", ".join(f'"{choice}"' for choice in form["enum"])
    words = {
        "integer": "an integer",
        "number": "a number",
        "string": "text",
        "boolean": "true or false",
        "null": "none",
        "object": "a table",
        "array": "a list",
    }
    bounds = {
        "minimum": "of at least",
        "exclusiveMinimum": "above",
        "maximum": "of at most",
        "exclusiveMaximum": "below",
    }
    limits = [f"{text} {form[name]:g}" for name, text in bounds.items() if name in form]
    return " ".join(
        [words.get(cast(str, form.get("type")), "a value"), " and ".join(limits)]
    ).strip()


def _toml(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    return repr(value)
