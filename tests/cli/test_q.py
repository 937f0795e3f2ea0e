"""`turnwise q` from outside: a real Q on a tiny model, a gate that opens, one that stays shut."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.test_main import turnwise
from tests.iteration.test_q_check import conversation
from tests.rollouts.toy import TOKENIZER
from turnwise.backends.tiny import save_tiny, tiny_model
from turnwise.conversation import LoggedOutcome
from turnwise.records import read_trajectories, write_logged

FIT = (
    "num_threads=1", "q.learning_rate=0.01", "q.batch_size=16", "rollout.max_turn_tokens=3",
    "rollout.max_conversation_tokens=64", "gate.num_bootstrap=200", "gate.coverage_prompts=32",
    "q.verdict_question=go", "q.verdict_yes=yes", "q.verdict_no=no", "logs.version=v1",
)  # fmt: skip

SAID = {
    f"{first} {second}": [
        {"role": "user", "content": "hello"}, {"role": "assistant", "content": first},
        {"role": "user", "content": "go"}, {"role": "assistant", "content": second},
    ]
    for first in ("yes", "no") for second in ("yes", "no")
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    save_tiny(path, tiny_model(TOKENIZER, hidden_size=64, num_layers=1, seed=0), TOKENIZER)
    return path


def fitted(folder: Path, model: Path, *, tells: bool) -> Path:
    """Q of 500 conversations; where it tells nothing, outcomes are those of others."""
    found = [conversation(number) for number in range(500)]
    if not tells:
        others = [one.outcome for one in found[::-1]]
        found = [replace(one, outcome=o) for one, o in zip(found, others, strict=True)]
    folder.mkdir()
    write_logged(folder / "logs.parquet", found)
    done = turnwise(
        "q", "fit", *FIT, "--logs", folder / "logs.parquet", "--model", model,
        "--out", folder / "q", "--quiet",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(folder / "q")
    return folder / "q"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    return fitted(tmp_path_factory.mktemp("good") / "in", model, tells=True)


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    return fitted(tmp_path_factory.mktemp("blind") / "in", model, tells=False)


def digest(folder: Path) -> str:
    files = sorted(folder.rglob("*.safetensors"))
    assert files
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def test_a_q_that_tells_replies_apart_passes_its_gate(good: Path) -> None:
    done = turnwise("q", "check", good, "gate.judge=none", "--quiet", "--json")
    assert done.exit_code == 0, done.output
    row = json.loads(done.stdout.splitlines()[-1])
    assert row["event"] == "result" and row["is_open"] is True
    assert row["checks"]["G1"]["low"] > 0 and row["checks"]["G3"]["verdict"] == "off"
    assert json.loads((good / "gate" / "gate.json").read_text(encoding="utf-8"))["is_open"] is True
    assert Path(row["page"]).is_file()


def test_a_q_of_outcomes_at_random_is_refused_and_nothing_changes(blind: Path) -> None:
    before = digest(blind)
    done = turnwise("q", "check", blind, "gate.judge=none", "gate.min_customers=999", "--quiet")
    assert done.exit_code == 4 and "at least 999 customers" in done.stderr
    assert "gate error:" in done.stderr and "gate G1: expected" in done.stderr
    assert "Nothing was trained." in done.stderr
    assert "gate    shut" in done.stdout and "G8" in done.stdout
    assert digest(blind) == before
    assert (blind / "gate" / "gate.html").is_file()  # a refusal has its report too
    done = turnwise("q", "check", blind, "gate.judge=none", "--warn", "--quiet")
    assert done.exit_code == 0 and "what follows is ungated" in done.stdout
    found = json.loads((blind / "gate" / "gate.json").read_text(encoding="utf-8"))
    assert found["is_ungated"] is True and found["refusal"]


def test_the_same_check_says_the_same_and_the_base_can_judge_without_a_network(good: Path) -> None:
    texts = []
    for _ in range(2):
        turnwise("q", "check", good, "--warn", "--quiet")
        texts.append((good / "gate" / "gate.json").read_text(encoding="utf-8"))
    assert texts[0] == texts[1]
    assert 0.5 < json.loads(texts[0])["checks"]["G3"]["parts"]["judge"]["loss"] < 0.75


def test_a_check_changes_settings_of_the_gate_alone(good: Path) -> None:
    done = turnwise("q", "check", good, "q.num_heads=1")
    assert done.exit_code == 2 and "q.num_heads=1: expected a key of gate or judge" in done.stderr


def test_what_is_missing_is_said_before_any_work(tmp_path: Path) -> None:
    done = turnwise("q", "fit", "--logs", tmp_path / "a.parquet")
    assert done.exit_code == 2 and "--model MODEL and --out FOLDER" in done.stderr
    done = turnwise("q", "check", tmp_path)
    assert done.exit_code == 2 and "no config.toml" in done.stderr
    done = turnwise("q", "fit", "a.toml", "b.toml")
    assert done.exit_code == 2 and "expected one TOML file" in done.stderr


def test_logs_with_one_outcome_are_refused_before_the_fit(tmp_path: Path, model: Path) -> None:
    lost = [
        replace(conversation(number), outcome=LoggedOutcome("sale", 0.0)) for number in range(40)
    ]
    write_logged(tmp_path / "lost.parquet", lost)
    done = turnwise(
        "q", "fit", *FIT, "--logs", tmp_path / "lost.parquet", "--model", model,
        "--out", tmp_path / "q", "--quiet",
    )  # fmt: skip
    assert done.exit_code == 2 and "found 40 × 0" in done.stderr


def test_a_fitted_q_credits_saved_turns_beside_other_methods(
    good: Path, model: Path, tmp_path: Path
) -> None:
    """In this toy every yes raises the chance and every no lowers it, whatever was said before."""
    lines = [{"messages": messages, "outcome": 1.0} for messages in SAID.values()]
    (tmp_path / "said.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    asked = ("credit", tmp_path / "said.jsonl", "--methods", "q,uniform", "--model", model)
    done = turnwise(*asked, "--q", good, "--quiet")
    assert done.exit_code == 0, done.output
    records = read_trajectories(tmp_path / "credit" / "credit.parquet")
    found = {
        (reply, k): record.credit["q"][k]
        for record, replies in zip(records, SAID, strict=True)
        for k, reply in enumerate(replies.split())
    }
    assert all(found["yes", k] > 0.05 and found["no", k] < -0.05 for k in (0, 1))
    done = turnwise(*asked)
    assert done.exit_code == 2 and "give its folder as --q" in done.stderr
    done = turnwise(*asked, "--q", tmp_path)
    assert done.exit_code == 2 and "no round_*/fit" in done.stderr
