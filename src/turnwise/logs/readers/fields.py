"""One field of a record as what it must be.

What is absent is None. Every function raises RefusedError for what is there and is something else.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import cast
from zoneinfo import ZoneInfo

from turnwise.errors import ConfigError
from turnwise.logs.options import ReaderOptions
from turnwise.logs.readers.refused import RefusedError, kind, shown

Object = Mapping[str, object]

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def first(row: Object, *keys: str) -> object:
    """What stands under the first of the keys that holds something."""
    return next((row[key] for key in keys if row.get(key) is not None), None)


def wrong(field: str, expected: str, value: object) -> RefusedError:
    """The refusal of a field that is missing or of the wrong type."""
    return RefusedError(
        "missing_field",
        f"{expected} in {field}",
        kind(value),
        "add or correct it in the export, or map it with --map",
        field,
    )


def exact_id(value: object, field: str) -> str | None:
    """An id as text; whole numbers become their digits. Raises RefusedError for any other."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise RefusedError(
        "id_not_exact",
        f'text or a whole number as {field} (81 becomes "81")',
        f"{shown(value)}, digits are lost",
        "export ids as text",
        field,
    )


def text(value: object, field: str) -> str | None:
    """Words as they are."""
    if value is None or isinstance(value, str):
        return value
    raise wrong(field, "text", value)


def number(value: object, field: str) -> float | None:
    """A finite number; CSV has only its digits."""
    if value is None:
        return None
    found = as_number(value)
    if found is None:
        raise wrong(field, "a number", value)
    return found


def as_number(value: object) -> float | None:
    """The number that a value is or spells, None where it is none or not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def whole(value: object, field: str) -> int | None:
    """A whole number that a column of 64 bits can hold; CSV has only its digits."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 19:
        return int(value)
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if value is None or (isinstance(value, int) and is_whole and abs(value) < 2**63):
        return value
    raise wrong(field, "a whole number of at most 63 bits", value)


def flag(value: object, field: str) -> bool | None:
    """Yes or no; CSV has only the words."""
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.lower(), value)
    if value is None or isinstance(value, bool):
        return value
    raise wrong(field, "true or false", value)


def choice(value: object, field: str, choices: Sequence[str]) -> str | None:
    """One of the words that a field may hold."""
    if value is None or value in choices:
        return cast(str | None, value)
    raise wrong(field, f"one of {', '.join(choices)}", value)


def mapping(value: object, field: str) -> Object | None:
    """An object, or the JSON text of one."""
    value = from_json(value)
    if value is None or isinstance(value, Mapping):
        return value
    raise wrong(field, "an object", value)


def listing(value: object, field: str) -> list[object] | None:
    """A list, or the JSON text of one."""
    value = from_json(value)
    if value is None or isinstance(value, list):
        return value
    raise wrong(field, "a list", value)


def from_json(value: object) -> object:
    """What a text spells if it is a JSON object or list, otherwise the value itself."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return parse_json(value)
        except UnicodeEncodeError:
            raise half_a_pair() from None
        except (ValueError, RecursionError):
            return value
    return value


def parse_json(words: str) -> object:
    """The value of a JSON text. Raises ValueError or RecursionError if it is none,
    UnicodeEncodeError if it spells what is no character."""
    value: object = json.loads(words)
    if _SURROGATE.search(words):
        json.dumps(value, ensure_ascii=False).encode()
    return value


def half_a_pair() -> RefusedError:
    """The refusal of a text that is not made of characters."""
    return RefusedError(
        "bad_encoding", "whole characters", "half of a surrogate pair", "export it again"
    )


def numbers(value: object, field: str) -> dict[str, float]:
    """A name -> number map; names without a number are left out."""
    found = {
        key: number(one, f"{field}.{key}") for key, one in (mapping(value, field) or {}).items()
    }
    return {key: one for key, one in found.items() if one is not None}


def moment(value: object, field: str, options: ReaderOptions) -> datetime | None:
    """A time in UTC: ISO text or seconds since 1970. Raises RefusedError where its zone is open."""
    if value is None or isinstance(value, datetime):
        found = value
    elif isinstance(value, str):
        found = _from_text(value)
    else:
        found = _from_seconds(value)
    if found is not None and found.tzinfo is None and options.timezone is not None:
        found = found.replace(tzinfo=zone(options.timezone))
    try:
        # What names no zone is never taken for the zone of this machine.
        in_utc = found.astimezone(UTC) if found is not None and found.tzinfo else None
    except OverflowError:
        in_utc = None
    if value is not None and in_utc is None:
        raise RefusedError(
            "time_without_zone",
            f"a time with its zone in {field}",
            shown(str(value) if isinstance(value, datetime) else value),
            "say --timezone, e.g. --timezone Europe/Berlin",
            field,
        )
    return in_utc


def _from_text(value: str) -> datetime | None:
    try:
        return datetime.fromisoformat(value.strip())
    except ValueError:
        return None


def _from_seconds(value: object) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        return None
    # Milli-, micro- and nanoseconds are told by their size: no log is of the year 5000.
    scale = next((scale for scale in (1, 10**3, 10**6, 10**9) if value < 10**11 * scale), 0)
    if not scale:
        return None
    micros = value * 10**6 // scale if isinstance(value, int) else round(value * 1e6 / scale)
    return _EPOCH + timedelta(microseconds=micros)


@lru_cache(maxsize=8)
def zone(name: str) -> ZoneInfo:
    """A time zone by its name. Raises ConfigError if there is none of it."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # not found, no legal key, a folder
        raise ConfigError(
            f"expected a time zone such as Europe/Berlin or UTC, found {name!r}"
        ) from None
