"""The command line from outside: what it prints, what it leaves behind, and its exit codes."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from turnwise.cli.main import app

TINY = """
num_threads = 1
[model]
hidden_size = 64
num_layers = 1
[warm_start]
demonstrations = 20
epochs = 1
[task]
preset = "easy"
[rollout]
max_turn_tokens = 8
[train]
max_steps = 1
num_problems = 2
num_generations = 2
[eval]
num_scenarios = 3
every = 0
"""


def turnwise(*arguments: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


def refusal(*arguments: str | Path) -> str:
    """What stderr says of a user's mistake: exit code 2, no traceback, nothing on stdout."""
    result = turnwise(*arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("TURNWISE_CACHE", str(tmp_path_factory.getbasetemp() / "cache_of_cli"))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one step."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TURNWISE_CACHE", str(tmp_path_factory.getbasetemp() / "cache_of_cli"))
        result = turnwise("train", recipe, "--output-dir", folder)
    assert result.exit_code == 0, result.output
    assert "paired difference" in result.stdout
    assert f"report  {folder / 'report.html'}" in result.stdout
    assert "train: 1/1" in result.stderr
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_leaves_what_its_page_promises(run: Path) -> None:
    expected = ["config.toml", "env.json", "metrics.jsonl", "report.html", "eval/comparison.json"]
    assert [name for name in expected if not (run / name).is_file()] == []
    assert list((run / "checkpoints").iterdir())
    assert (run / "trajectories" / "eval_000000.parquet").is_file()


def test_every_metric_of_a_training_step_is_documented(run: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "run-folder.md").read_text("utf-8")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    names = {key for row in rows if row["kind"] == "train" for key in row}
    names = {re.sub(r"/\d+$", "/{k}", name) for name in names} - {"kind", "step"}
    names = {re.sub(r"^stop/.*", "stop/{ending}", name) for name in names}
    names = {re.sub(r"^credit/[^/]+/turn/", "credit/{method}/turn/", name) for name in names}
    names = {re.sub(r"^(truth/\w+)/.*", r"\1/{method}", name) for name in names}
    names = {re.sub(r"/refused/.*", "/refused/{reason}", name) for name in names}
    names = {re.sub(r"^outcome/.*", "outcome/{part}", name) for name in names}
    assert sorted(name for name in names if f"`{name}`" not in page) == []


def test_a_run_that_exists_is_refused_and_stays_as_it_is(run: Path, recipe: Path) -> None:
    before = contents(run)
    assert "already holds a run" in refusal("train", recipe, "--output-dir", run)
    assert contents(run) == before


def test_a_finished_run_can_be_resumed_from_its_own_folder(run: Path) -> None:
    before = (run / "metrics.jsonl").read_bytes()
    result = turnwise("train", run, "--resume", "--json", "--output-dir", run)
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert rows[-1]["event"] == "result"
    assert rows[-1]["run_folder"] == str(run)
    assert (run / "metrics.jsonl").read_bytes() == before


def test_a_resumed_run_keeps_its_settings(run: Path, recipe: Path) -> None:
    arguments = (recipe, "train.learning_rate=0.5", "--resume", "--output-dir", run)
    assert "train.learning_rate" in refusal("train", *arguments)


def test_overwriting_spares_a_folder_that_is_not_a_run(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("mine", encoding="utf-8")
    assert str(tmp_path) in refusal("train", recipe, "--overwrite", "--output-dir", tmp_path)
    assert (tmp_path / "letters.txt").read_text(encoding="utf-8") == "mine"


def test_a_dry_run_shows_the_mask_and_touches_nothing(recipe: Path, tmp_path: Path) -> None:
    result = turnwise("train", recipe, "--dry-run", "--output-dir", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "[[" in result.stdout
    assert "max_steps = 1" in result.stdout
    assert not (tmp_path / "run").exists()


def test_an_evaluation_compares_in_pairs(run: Path) -> None:
    result = turnwise("eval", run, "--scenarios", "3", "--against", run, "--json")
    assert result.exit_code == 0, result.output
    row = json.loads(result.stdout)
    assert row["summary"]["num_scenarios"] == 3
    # A run against itself meets the same users with the same chance.
    assert row["comparison"]["score"] == {"difference": 0.0, "low": 0.0, "high": 0.0}


def test_the_report_can_be_written_again(run: Path) -> None:
    (run / "report.html").unlink()
    result = turnwise("report", run)
    assert (result.exit_code, result.stdout.strip()) == (0, str(run / "report.html"))
    assert (run / "report.html").stat().st_size > 1000


def test_a_person_can_talk_to_it(run: Path) -> None:
    result = turnwise("chat", run, stdin="please book a room .\nbye\n")
    assert result.exit_code == 0, result.output
    assert "assistant: " in result.stdout


def test_a_model_learns_from_a_file_of_conversations(run: Path, tmp_path: Path) -> None:
    [model] = (run.parents[1] / "cache_of_cli").glob("tiny-*")
    file, made = tmp_path / "dialogues.jsonl", tmp_path / "made"
    row = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "which day ?"}]
    file.write_text(json.dumps(row) + "\n", encoding="utf-8")
    result = turnwise("sft", model, file, "--output", made, "--quiet")
    assert (result.exit_code, result.stdout.strip()) == (0, str(made)), result.output
    assert (made / "model.safetensors").is_file()
    assert "exists" in refusal("sft", model, file, "--output", made)
    file.write_text("not json\n", encoding="utf-8")
    assert "line 1" in refusal("sft", model, file, "--output", tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["train.max_stepz=1"], "did you mean train.max_steps?"),
        (["train.max_steps=many"], "an integer of at least 1"),
        (["method.credit=itpo-nrm"], 'did you mean "itpo-norm"?'),
        (["method.estimator=ppo2"], '"implicit-value"'),
        (["task.name=clarfy"], "clarify"),
        (["task.preset=medum"], "medium"),
        (["task.knobs.patienc=3"], "patience"),
        (["train.num_generations=1"], "train.num_generations"),
        (["model.name=no/such/folder/here"], "no/such/folder/here"),
        (["--resume", "--overwrite"], "leave one out"),
    ],
)
def test_a_mistake_is_refused_before_a_run_is_made(
    recipe: Path, tmp_path: Path, overrides: list[str], part: str
) -> None:
    text = refusal("train", recipe, *overrides, "--output-dir", tmp_path / "run")
    assert part in text
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_model_folder_without_weights_is_refused(run: Path, tmp_path: Path) -> None:
    [model] = (run.parents[1] / "cache_of_cli").glob("tiny-*")
    shutil.copytree(model, tmp_path / "bare")
    (tmp_path / "bare" / "model.safetensors").unlink()
    text = refusal("eval", tmp_path / "bare", "--task", "clarify")
    assert text.startswith("model error: ")
    assert str(tmp_path / "bare") in text


def test_a_tokenizer_without_a_chat_template_is_refused(run: Path, tmp_path: Path) -> None:
    [model] = (run.parents[1] / "cache_of_cli").glob("tiny-*")
    shutil.copytree(model, tmp_path / "mute", ignore=shutil.ignore_patterns("*.jinja"))
    text = refusal("eval", tmp_path / "mute", "--task", "clarify")
    assert text.startswith("template error: ")


def test_a_corrupt_checkpoint_is_named(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    weights = tmp_path / "run/checkpoints/step_000001/policy/adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    text = refusal("eval", tmp_path / "run", "--scenarios", "1")
    assert text.startswith("checkpoint error: ")
    assert "step_000001" in text


def test_a_model_needs_a_task_to_be_judged(tmp_path: Path) -> None:
    assert "--task" in refusal("eval", tmp_path)


def test_the_lists_name_everything() -> None:
    methods = turnwise("methods").stdout
    assert [
        name for name in ("itpo-norm", "implicit-value", "public-code") if name not in methods
    ] == []
    assert "clarify" in turnwise("tasks").stdout
    shown = turnwise("tasks", "show", "clarify", "--preset", "hard").stdout
    assert "vague_rate" in shown
    assert "assistant" in shown
    assert 'did you mean "clarify"' in refusal("tasks", "show", "clarfy")
    assert "unknown preset" in refusal("tasks", "show", "clarify", "--preset", "hrad")


def test_the_doctor_says_what_is_here() -> None:
    rows = [json.loads(line) for line in turnwise("doctor", "--json").stdout.splitlines()]
    assert "torch" in {row["what"] for row in rows}
    assert "to do" in turnwise("doctor").stdout


def test_debug_adds_the_traceback(tmp_path: Path) -> None:
    result = turnwise("train", tmp_path / "none.toml", "--debug")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "config error: expected a TOML file" in result.stderr


def child(*arguments: str | Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "turnwise.cli.main", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_help_answers_at_once() -> None:
    program = (
        "import sys, time\n"
        "from turnwise.cli.main import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'pydantic', 'pyarrow', 'numpy'} & set(sys.modules)\n"
        "sys.stderr.write(f'{time.process_time()} {sorted(heavy)} ')\n"
        "import turnwise.cli.settings\n"
        "sys.stderr.write(str('torch' in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    seconds, heavy, has_torch_for_settings = done.stderr.split()
    assert "doctor" in done.stdout
    assert (heavy, has_torch_for_settings) == ("[]", "False")
    assert float(seconds) < 0.5  # of this process alone, so that a busy machine changes nothing


def test_a_mistake_ends_the_process_with_2(tmp_path: Path) -> None:
    process = child("train", tmp_path / "none.toml")
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert err.startswith("config error: expected a TOML file")


def test_ctrl_c_saves_and_says_how_to_go_on(recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = child("train", recipe, "train.max_steps=100000", "--json", "--output-dir", folder)
    assert process.stdout is not None
    for line in process.stdout:
        row = json.loads(line)
        if row["event"] == "advance" and row["phase"] == "train" and row["by"]:
            process.send_signal(signal.SIGINT)
            break
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"--resume --output-dir {folder}" in err
    assert "Traceback" not in err
    saved = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert (folder / "checkpoints" / f"step_{saved[-1]['step']:06d}").is_dir()
