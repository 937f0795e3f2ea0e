"""A TOML file and dotted overrides become settings, or an error that says what to change."""

import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from turnwise.cli.fields import Setting, settings
from turnwise.errors import ConfigError
from turnwise.training.config import RunConfig, Section

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Table = dict[str, object]
Model = type[Section]
Config = TypeVar("Config", bound=Section)


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The settings of a run of `turnwise train`; see `load_settings`."""
    return load_settings(RunConfig, path, overrides)


def load_settings(model: type[Config], path: Path, overrides: Sequence[str] = ()) -> Config:
    """The settings of the TOML file `path`, changed by overrides such as "train.max_steps=10".

    path: a TOML file, or the folder of a run (its own config.toml).
    An override's value is read as TOML where it is TOML and as text otherwise; `none` takes a
    setting back to nothing where nothing is allowed.
    Raises ConfigError for a file that cannot be read and, all together, for every key that is
    unknown, of the wrong type or out of range.
    """
    return _changed(model, read_toml(path), overrides, origin=str(path))


def with_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """The settings changed by overrides. Raises ConfigError as `load_config`."""
    if not overrides:
        return config
    return _changed(type(config), config.model_dump(), overrides, origin="the settings")


def _changed(model: type[Config], table: Table, overrides: Sequence[str], *, origin: str) -> Config:
    changed = {}
    for override in overrides:
        key, value = parsed_override(override, model)
        _put(table, key, value)
        changed[key] = override
    return validated(model, table, origin=origin, overrides=changed)


def read_toml(path: Path) -> Table:
    """The tables of a TOML file. Raises ConfigError with line and column if it is not TOML."""
    path = path / "config.toml" if path.is_dir() else path
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"expected a TOML file, found nothing at {path}{_near(path)}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"expected UTF-8 text in {path}, found other bytes: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}; text stands in double quotes") from error


def _near(path: Path) -> str:
    if "=" in path.name:
        return "; the TOML file comes first, then the overrides"
    names = [one.name for one in path.parent.glob("*.toml")] if path.parent.is_dir() else []
    close = get_close_matches(path.name, names, n=1) or get_close_matches(
        f"{path.name}.toml", names
    )
    if close:
        return f"; did you mean {path.parent / close[0]}?"
    return f"; there are {', '.join(sorted(names))}" if names else ""


def parsed_override(text: str, model: Model = RunConfig) -> tuple[str, object]:
    """The key and the value of "key=value". Raises ConfigError if it has another form."""
    key, equals, raw = text.partition("=")
    key, raw = key.strip(), raw.strip()
    if not equals or not all(key.split(".")):
        raise ConfigError(f"expected key=value such as train.max_steps=10, found {text!r}")
    return key, _value(raw, settings(model).get(key))


def _value(raw: str, setting: Setting | None) -> object:
    if raw == "none" and setting is not None and setting.is_optional:
        return None if "none" not in setting.choices else raw
    is_quoted = raw[:1] in ("'", '"')
    if setting is not None and setting.is_text and not is_quoted:
        return raw
    try:
        parsed = tomllib.loads(f"value = {raw}")
    except tomllib.TOMLDecodeError:
        return _number_or_text(raw, setting)
    return parsed["value"] if len(parsed) == 1 else raw


def _number_or_text(raw: str, setting: Setting | None) -> object:
    """Numbers that people write and TOML does not know, such as .5; the text itself otherwise."""
    if setting is None or not setting.is_number:
        return raw
    try:
        return float(raw)
    except ValueError:
        return raw


def _put(table: Table, key: str, value: object) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        inner = table.get(parent)
        if not isinstance(inner, dict):
            inner = table[parent] = {}
        table = inner
    table[last] = value


def validated(
    model: type[Config], table: Table, *, origin: str, overrides: Mapping[str, str]
) -> Config:
    """The settings of a table; types are taken as they stand (no "10" for 10).

    origin: the file's name, for the message. overrides: key -> the override that set it.
    Raises ConfigError naming every faulty key, where it came from, what was found, what is allowed.
    """
    try:
        return model.model_validate(table, strict=True)
    except ValidationError as error:
        faults = {_key(detail, model): detail for detail in error.errors()}
    lines = []
    for key, detail in faults.items():
        if any(other.startswith(f"{key}.") for other in faults):
            continue  # what is wrong inside it says more
        setter = next((text for name, text in overrides.items() if _covers(name, key)), None)
        place = f"override {setter}" if setter else origin
        lines.append(f"{place}: {_complaint(key, detail, model)}")
    raise ConfigError("\n".join(lines))


def _covers(name: str, key: str) -> bool:
    return name == key or name.startswith(f"{key}.") or key.startswith(f"{name}.")


def _key(detail: "ErrorDetails", model: Model) -> str:
    """The dotted key of a fault; alternatives of one value's type count once."""
    parts = [str(part) for part in detail["loc"]]
    if parts[:2] == ["task", "knobs"]:
        return ".".join(parts[:3])
    if parts[:2] == ["method", "credit"]:  # of a sum: whose weight, and what of a schedule
        is_weight = len(parts) > 4 and parts[4] != "[key]"
        return ".".join([*parts[:2], *parts[3:4], *parts[5:]] if is_weight else parts[:2])
    while (
        len(parts) > 1
        and ".".join(parts) not in settings(model)
        and detail["type"] != "extra_forbidden"
    ):
        parts.pop()
    return ".".join(parts)


def _complaint(key: str, detail: "ErrorDetails", model: Model) -> str:
    found = detail["input"]
    if key.startswith("method.credit."):
        return (
            f"{key}: expected a weight, a finite number of at least 0 or a schedule such as "
            f"{{start = 0.5, end = 0.0, steps = 20}}, found {_shown(found)}"
        )
    if detail["type"] == "extra_forbidden":
        return unknown_key(key, model)
    setting = settings(model).get(key)
    if key.startswith("task.knobs."):
        return f"{key}: expected true, false, a number or text, found {found!r}"
    if setting is None:
        return (
            f"{key} is a section: expected keys such as {_keys_of(key, model)[0]}, found {found!r}"
        )
    hint = did_you_mean(str(found), setting.choices)
    return f"{key}: expected {setting.allowed}, found {_shown(found)}{hint}"


def _shown(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def unknown_key(key: str, model: Model = RunConfig) -> str:
    """What to say of a key that no setting has: the nearest ones, and those of its section."""
    everything = list(settings(model))
    section, _, name = key.rpartition(".")
    same_name = [other for other in everything if other.rpartition(".")[2] == name]
    close = same_name or get_close_matches(key, everything, n=1, cutoff=0.75)
    names = {other.rpartition(".")[2]: other for other in everything}
    close = close or [names[near] for near in get_close_matches(name, names, n=1, cutoff=0.75)]
    hint = f"; did you mean {' or '.join(close[:3])}?" if close else ""
    known = _keys_of(section, model) or sorted({other.partition(".")[0] for other in everything})
    place = f"[{section}]" if _keys_of(section, model) and section else "the file"
    return f"unknown key {key}{hint}\n    {place} knows: {', '.join(known)}"


def _keys_of(section: str, model: Model) -> list[str]:
    return [
        setting.name
        for setting in settings(model).values()
        if setting.section == section and section
    ]


def did_you_mean(found: str, allowed: Sequence[str]) -> str:
    """ "; did you mean X?" for the nearest of the allowed texts, or nothing."""
    close = get_close_matches(found, allowed, n=1, cutoff=0.5)
    return f'; did you mean "{close[0]}"?' if close else ""
