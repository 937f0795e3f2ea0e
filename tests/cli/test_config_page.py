"""The pages of settings say what the models say."""

import importlib.util
from pathlib import Path

import pytest

from turnwise.cli.fields import settings
from turnwise.iteration.config import IterateConfig
from turnwise.training.config import RunConfig, Section

DOCS = Path(__file__).resolve().parents[2] / "docs"
MODELS: dict[str, type[Section]] = {"config.md": RunConfig, "config_iterate.md": IterateConfig}


@pytest.mark.parametrize("name", MODELS)
def test_the_page_of_settings_is_up_to_date(name: str) -> None:
    spec = importlib.util.spec_from_file_location("make_config_page", DOCS / "make_config_page.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.PAGES.keys() == MODELS.keys()
    written = (DOCS / name).read_text(encoding="utf-8")
    assert written == script.page(*script.PAGES[name]), f"docs/{name} is old; `make docs` writes it"


@pytest.mark.parametrize("name", MODELS)
def test_the_page_names_every_key(name: str) -> None:
    text, keys = (DOCS / name).read_text(encoding="utf-8"), settings(MODELS[name])
    assert [key for key in keys if f"| `{key.rpartition('.')[2]}` |" not in text] == []
