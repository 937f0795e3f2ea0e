"""Settings to TOML. Python reads TOML (`tomllib`) and does not write it."""

import json
import re
from collections.abc import Mapping

from turnwise.errors import ConfigError

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")


def to_toml(settings: Mapping[str, object]) -> str:
    """The settings as TOML: `tomllib.loads(to_toml(x))` is x without its None values.

    settings: text, numbers, booleans, None, and lists and mappings of them. TOML has no null: a
    key that holds None is left out, which a reader with defaults takes as None.
    Raises ConfigError naming the key for anything else, None inside a list included.
    """
    return "\n".join(_table((), settings)).strip("\n") + "\n"


def _table(path: tuple[str, ...], table: Mapping[str, object]) -> list[str]:
    values = {k: v for k, v in table.items() if not isinstance(v, Mapping) and v is not None}
    tables = {k: v for k, v in table.items() if isinstance(v, Mapping)}
    lines = [f"{_key(k)} = {_value((*path, k), v)}" for k, v in values.items()]
    if path and (lines or not tables):
        lines = ["", f"[{'.'.join(map(_key, path))}]", *lines]
    for key, inner in tables.items():
        lines += _table((*path, key), inner)
    return lines


def _value(path: tuple[str, ...], value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return _text(value)
        case list() | tuple():
            return f"[{', '.join(_value(path, item) for item in value)}]"
        case Mapping():
            inner = {k: v for k, v in value.items() if v is not None}
            pairs = [f"{_key(k)} = {_value((*path, k), v)}" for k, v in inner.items()]
            return f"{{{', '.join(pairs)}}}"
    raise ConfigError(
        f"expected text, a number, a boolean, a list or a table as {'.'.join(path)}, got "
        f"{type(value).__name__} {value!r}; TOML has no form for it"
    )


def _key(key: str) -> str:
    return key if _BARE_KEY.match(key) else _text(key)


def _text(text: str) -> str:
    # JSON's escapes are TOML's, but for DEL, which JSON lets pass.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
