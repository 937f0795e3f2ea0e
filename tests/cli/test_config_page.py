"""The page of settings says what the models say."""

import importlib.util
from pathlib import Path

from turnwise.cli.fields import settings

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_page_of_settings_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("make_config_page", DOCS / "make_config_page.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    written = (DOCS / "config.md").read_text(encoding="utf-8")
    assert written == script.page(), "docs/config.md is old; `make docs` writes it again"


def test_the_page_names_every_key() -> None:
    text = (DOCS / "config.md").read_text(encoding="utf-8")
    assert [key for key in settings() if f"| `{key.rpartition('.')[2]}` |" not in text] == []
