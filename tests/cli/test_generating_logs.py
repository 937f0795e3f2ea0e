"""A model cloned from logs speaks as they do, and keeps logs of its own when it is served."""

from pathlib import Path

import pytest

from tests.cli.test_main import refusal, turnwise
from turnwise.conversation import EndReason, LoggedConversation, LoggedOutcome, PolicyFacts, Step
from turnwise.records import read_logged, write_logged

SAYING = "take your time ."
SELL = ("logs", "generate", "sell", "--preset", "easy", "--conversations", "3")


def monotonous(number: int) -> LoggedConversation:
    """Whatever the customer asks, the answer is the same; a person mends it now and then."""
    steps = []
    for text in ("hm , do you sell bags ?", "for travel .", "no , thanks ."):
        said = Step("assistant", SAYING, author="model", policy=PolicyFacts("live"))
        if number % 3 == 0:
            said = Step(
                "assistant", "buy it !", author="human", disposition="edited", proposed=SAYING
            )
        steps += [Step("user", text), said]
    outcome = LoggedOutcome("purchase", float(number % 2))
    return LoggedConversation(f"c{number}", tuple(steps), EndReason.OUTCOME, outcome)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clone")
    (folder / "logs").mkdir()
    write_logged(folder / "logs" / "part.parquet", [monotonous(i) for i in range(12)])
    done = turnwise(
        "sft", "tiny", folder / "logs", "--output", folder / "model", "--epochs", "30",
        "--learning-rate", "3e-3", "--quiet",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return folder / "model"


def served(model: Path, out: Path, seed: int) -> list[LoggedConversation]:
    done = turnwise(*SELL, "--model", model, "--version", "v7", "--seed", str(seed), "--out", out)
    assert (done.exit_code, done.stdout.split()) == (0, [str(out)]), done.output
    return list(read_logged(out))


def test_a_clone_says_what_the_policy_of_the_logs_proposed(clone: Path, tmp_path: Path) -> None:
    played = served(clone, tmp_path / "a.parquet", 1)
    assert {step.content for one in played for step in one.decisions} == {SAYING}
    assert {step.policy and step.policy.version for one in played for step in one.decisions} == {
        "v7"
    }


def test_another_seed_meets_other_customers(clone: Path, tmp_path: Path) -> None:
    one, other = (served(clone, tmp_path / f"{seed}.parquet", seed) for seed in (1, 2))
    assert not {c.customer for c in one} & {c.customer for c in other}
    assert not {c.conversation_id for c in one} & {c.conversation_id for c in other}


def test_the_export_of_a_served_model_can_be_imported(clone: Path, tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    done = turnwise(*SELL, "--model", clone, "--version", "v7", "--raw", "--out", chats)
    assert done.exit_code == 0, done.output
    # Nobody here says anything new: all but the first of equal texts are duplicates.
    done = turnwise(
        "logs", "import", chats, "--outcomes", chats.with_suffix(".outcomes.csv"),
        "--map", "outcome=purchase", "--max-bad", "1", "--out", tmp_path / "logs",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = list(read_logged(tmp_path / "logs"))
    assert found
    assert all(one.outcome and one.outcome.name == "purchase" for one in found)


def test_a_model_without_a_version_is_refused(clone: Path, tmp_path: Path) -> None:
    said = refusal(*SELL, "--model", clone, "--out", tmp_path / "a.parquet")
    assert "expected --model and --version together" in said
