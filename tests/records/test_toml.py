"""What was written as TOML is read back the same by Python's own reader."""

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.errors import ConfigError
from turnwise.records import to_toml

scalars = st.text() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
inline = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)
tables = st.recursive(
    st.dictionaries(st.text(), inline, max_size=3),
    lambda inner: st.dictionaries(st.text(), inline | inner, max_size=3),
    max_leaves=4,
)


@given(settings_=tables)
@settings(deadline=None)
def test_toml_round_trip_is_the_identity(settings_: dict[str, object]) -> None:
    assert tomllib.loads(to_toml(settings_)) == settings_


def test_toml_by_hand() -> None:
    written = to_toml(
        {"seed": 0, "task": {"name": "clarify", "knobs": {}}, "train": {"beta": 1e-05, "x": None}}
    )
    assert written == (
        'seed = 0\n\n[task]\nname = "clarify"\n\n[task.knobs]\n\n[train]\nbeta = 1e-05\n'
    )


def test_none_is_left_out_of_tables() -> None:
    assert tomllib.loads(to_toml({"a": None, "b": [{"c": None, "d": 1}]})) == {"b": [{"d": 1}]}


def test_what_toml_cannot_say_is_named() -> None:
    with pytest.raises(ConfigError, match=r"method\.when.*object"):
        to_toml({"method": {"when": object()}})
    with pytest.raises(ConfigError, match="as stops, got NoneType"):
        to_toml({"stops": [1, None]})
