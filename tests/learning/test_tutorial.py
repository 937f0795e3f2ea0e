"""The tutorial runs: its shell blocks, in order, with the real command line."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_shell_blocks_of_the_tutorial_run_in_order(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "tutorial_logs.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    shutil.copy(ROOT / "recipes" / "logs_to_policy.toml", tmp_path / "shop.toml")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for block in blocks:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "logs/round_0/quarantine.jsonl").is_file()
    assert "read             300" in page
    assert (tmp_path / "runs/shop/report.html").is_file()
    assert "ungated" in (tmp_path / "runs/shop/report.html").read_text(encoding="utf-8")
