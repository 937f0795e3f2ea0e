"""Keys come from outside and are never shown."""

from pathlib import Path

import pytest

from turnwise.errors import ConfigError
from turnwise.logs import ImportOptions, read_key
from turnwise.logs.privacy import pseudonym


def test_a_key_comes_from_a_file_or_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("0123456789abcdef\n")
    monkeypatch.setenv("LOGS_KEY", "0123456789abcdef")
    assert read_key(file=tmp_path / "key") == read_key(variable="LOGS_KEY") == b"0123456789abcdef"
    assert read_key() is None
    assert "0123456789abcdef" not in repr(ImportOptions(key=read_key(variable="LOGS_KEY")))


def test_a_key_that_is_missing_or_short_is_refused_without_being_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHORT_KEY", "hunter2")
    with pytest.raises(
        ConfigError, match="in the environment variable SHORT_KEY, found 7"
    ) as error:
        read_key(variable="SHORT_KEY")
    assert "hunter2" not in str(error.value)
    with pytest.raises(ConfigError, match="in the environment variable NO_SUCH_KEY, found 0"):
        read_key(variable="NO_SUCH_KEY")
    with pytest.raises(ConfigError, match="found no file to read"):
        read_key(file=tmp_path / "missing")


def test_pseudonyms_depend_on_the_key() -> None:
    first, second = pseudonym("+49151", b"a" * 16), pseudonym("+49151", b"b" * 16)
    assert first != second and len(first) == len("hmac:") + 32
