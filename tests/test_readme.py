"""What the README shows runs."""

import ast
import importlib
import re
from pathlib import Path

from torch import Tensor, tensor
from torch.testing import assert_close

ROOT = Path(__file__).resolve().parents[1]


def test_the_program_runs_and_gives_what_its_comments_say() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    [program] = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names: dict[str, Tensor] = {}
    exec(compile(program, "README.md", "exec"), names)
    # Sums of log-ratios to the reference's -1.5: (.5 + 1, -1.5) and (-.5, .5 + .5).
    assert_close(names["reward_BK"], tensor([[1.5, -1.5], [-0.5, 1.0]]))
    assert_close(names["weight_BK"].sum(dim=1), tensor([1.0, 1.0]))
    assert_close(names["centred_B"], tensor([1.0, -1.0]))
    # Redistribution keeps the mean over turns: (a_1 + a_2)/2 is the centred outcome.
    assert_close(names["advantage_BT"][:, [1, 4]].mean(dim=1), names["centred_B"])


def test_every_program_in_the_documents_imports_what_exists() -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        for program in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL):
            for node in ast.walk(ast.parse(program)):
                if isinstance(node, ast.ImportFrom):
                    module = importlib.import_module(str(node.module))
                    assert [name for name in node.names if not hasattr(module, name.name)] == []


def test_every_file_that_documents_link_to_exists() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    missing = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert missing == []


def test_every_make_target_and_recipe_that_documents_name_exists() -> None:
    text = "".join(
        page.read_text(encoding="utf-8")
        for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    )
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)`", text)) <= targets
    recipes = set(re.findall(r"recipes/[\w-]+\.toml", text))
    assert recipes
    assert [recipe for recipe in recipes if not (ROOT / recipe).exists()] == []
