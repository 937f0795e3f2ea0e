"""Typed settings of a task: a preset plus overrides, with errors that name what is allowed.

A task's knobs are a frozen dataclass of bool, int, float and Literal fields; its presets are
instances of it. Ranges are checked by the dataclass itself, with `check_range`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal, TypeVar, get_args, get_origin, get_type_hints

from turnwise.errors import ConfigError

if TYPE_CHECKING:  # typeshed's protocol of dataclass instances does not exist at run time
    from _typeshed import DataclassInstance

# How the noise-free recall becomes the score. bernoulli: 0 or 1, drawn with that mean;
# all_or_nothing: 1 only if everything is right, so that most groups of a weak policy are all 0.
OutcomeNoise = Literal["none", "bernoulli", "all_or_nothing"]

K = TypeVar("K", bound="DataclassInstance")


def settle(task: str, presets: Mapping[str, K], preset: str, knobs: Mapping[str, object]) -> K:
    """The preset's knobs with the given ones in place.

    Raises ConfigError for an unknown preset or knob (naming the allowed ones and the nearest
    match), and for a value of the wrong type or out of range.
    """
    if preset not in presets:
        raise unknown(f"preset of task {task!r}", preset, presets)
    base = presets[preset]
    kinds = get_type_hints(type(base))
    names = [f.name for f in fields(base)]
    changes: dict[str, object] = {}
    for name, value in knobs.items():
        if name not in names:
            raise unknown(f"knob of task {task!r}", name, names)
        changes[name] = _typed(f"knob {name!r} of task {task!r}", kinds[name], value)
    return replace(base, **changes)


def unknown(what: str, found: str, allowed: Iterable[str]) -> ConfigError:
    """An error for a name that is not among the allowed ones, with the nearest match."""
    names = sorted(allowed)
    near = get_close_matches(found, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return ConfigError(f"unknown {what}: {found!r}; expected one of {', '.join(names)}{hint}")


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raises ConfigError unless low <= value <= high."""
    if not low <= value <= high:
        raise ConfigError(f"knob {name!r}: expected {low}..{high}, found {value}")


def _typed(what: str, kind: object, value: object) -> object:
    if get_origin(kind) is Literal:
        allowed = get_args(kind)
        if value not in allowed:
            raise unknown(what, str(value), allowed)
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    # bool is an int to Python: "patience = true" must not become 1.
    if not isinstance(kind, type) or type(value) is not kind:
        expected = kind.__name__ if isinstance(kind, type) else str(kind)
        raise ConfigError(f"{what}: expected {expected}, found {type(value).__name__} {value!r}")
    return value
