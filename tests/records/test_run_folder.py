"""A run's folder is never mixed with another's, and nobody else's files are touched."""

import json
from pathlib import Path

import pytest

from turnwise.errors import RecordError, RunFolderError
from turnwise.records import RunFolder, append_metrics, find_run_folder, open_run_folder


def a_run(path: Path) -> RunFolder:
    folder = open_run_folder(path)
    folder.write_config({"seed": 1, "task": {"name": "clarify"}})
    folder.write_env(1)
    append_metrics(folder.metrics, {"step": 1})
    (folder.checkpoint(1)).mkdir()
    return folder


def files_in(path: Path) -> set[str]:
    return {str(file.relative_to(path)) for file in path.rglob("*")}


def test_a_new_run_has_its_folders(tmp_path: Path) -> None:
    folder = open_run_folder(tmp_path / "runs" / "a")
    assert folder.is_new
    assert files_in(folder.path) == {"trajectories", "checkpoints", "eval"}


def test_paths_are_those_of_the_design() -> None:
    folder = RunFolder(Path("r"))
    assert str(folder.training_dialogues(10)) == "r/trajectories/step_000010.parquet"
    assert str(folder.evaluation_dialogues(0)) == "r/trajectories/eval_000000.parquet"
    assert str(folder.evaluation(60)) == "r/eval/step_000060.json"
    assert str(folder.comparison) == "r/eval/comparison.json"
    assert str(folder.checkpoint(20)) == "r/checkpoints/step_000020"
    assert (str(folder.report), str(folder.log)) == ("r/report.html", "r/log.txt")


def test_a_run_that_exists_is_not_touched_unless_asked(tmp_path: Path) -> None:
    a_run(tmp_path)
    before = files_in(tmp_path)
    with pytest.raises(RunFolderError, match="already holds a run; choose resume"):
        open_run_folder(tmp_path)
    assert files_in(tmp_path) == before


def test_resume_keeps_everything_but_half_written_parts(tmp_path: Path) -> None:
    a_run(tmp_path)
    before = files_in(tmp_path)
    (tmp_path / "checkpoints" / ".step_000002.new").mkdir()
    folder = open_run_folder(tmp_path, exists="resume")
    assert not folder.is_new
    assert files_in(tmp_path) == before


def test_resume_of_nothing_is_a_new_run(tmp_path: Path) -> None:
    assert open_run_folder(tmp_path / "a", exists="resume").is_new


def test_overwrite_removes_the_run_and_nothing_else(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    run = tmp_path / "run"
    a_run(run)
    (run / "notes.md").touch()
    (run / "credit").mkdir()
    (run / "credit" / "credit.html").touch()
    (run / "credit" / "notes.md").touch()
    (run / "eval").rmdir()
    (run / "eval").symlink_to(elsewhere)
    folder = open_run_folder(run, exists="overwrite")
    assert folder.is_new
    own = {"trajectories", "checkpoints", "eval"}
    assert files_in(run) == own | {"notes.md", "credit", "credit/notes.md"}
    assert (elsewhere / "precious").exists()


@pytest.mark.parametrize("exists", ["error", "overwrite", "resume"])
def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, exists: str) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").touch()
    with pytest.raises(RunFolderError, match=r"not the folder of a run.*thesis/chapter\.tex"):
        open_run_folder(tmp_path, exists=exists)  # type: ignore[arg-type]  # a parametrised word
    assert files_in(tmp_path) == {"thesis", "thesis/chapter.tex"}


def test_a_file_in_the_place_of_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(RunFolderError, match="found a file"):
        open_run_folder(tmp_path / "a")


def test_a_run_killed_before_its_config_was_whole_starts_again(tmp_path: Path) -> None:
    open_run_folder(tmp_path)
    (tmp_path / ".config.toml.new").write_text("see")
    assert open_run_folder(tmp_path).is_new
    assert not (tmp_path / ".config.toml.new").exists()


def test_settings_come_back(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    assert folder.read_config() == {"seed": 1, "task": {"name": "clarify"}}


def test_settings_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(RecordError, match="found no file"):
        folder.read_config()
    folder.config.write_text("seed = ")
    with pytest.raises(RecordError, match=r"config\.toml is not valid TOML"):
        folder.read_config()


def test_the_environment_names_versions_and_no_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNWISE_TEST_KEY", "sk-very-secret")
    folder = RunFolder(tmp_path)
    folder.write_env(7)
    env = json.loads(folder.env.read_text())
    assert env["seed"] == 7
    assert env["versions"]["torch"] and env["versions"]["turnwise"]
    assert "sk-very-secret" not in folder.env.read_text()


def test_without_git_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    folder = RunFolder(tmp_path)
    folder.write_env(7)
    assert json.loads(folder.env.read_text())["git_commit"] is None


def test_only_a_run_is_found(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="found another folder"):
        find_run_folder(tmp_path)
    with pytest.raises(RunFolderError, match="found nothing"):
        find_run_folder(tmp_path / "none")
    a_run(tmp_path)
    assert find_run_folder(tmp_path).config.is_file()
