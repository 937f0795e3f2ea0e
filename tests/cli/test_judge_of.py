"""From the section [judge] to a jury."""

import asyncio
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_jobs import settings
from tests.endpoints.server import Reply, in_turn, serving
from tests.rollouts.toy import Yes
from tests.tasks.playing import assistant_texts, play, scripted
from turnwise.cli import jobs
from turnwise.cli.judge_of import build_judge
from turnwise.conversation import Conversation, Ending, Message, Outcome, Trajectory, Turn
from turnwise.errors import ConfigError
from turnwise.records import RunFolder, read_metrics
from turnwise.tasks import RuleTask, make
from turnwise.training.config import JudgeConfig
from turnwise.training.judging import judged_turn_scores
from turnwise.training.truth import informed_weights

KEY = "sk-secret-0123456789"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def exact(name: str, preset: str) -> RuleTask[Any, Any]:
    """A task that knows its truth. Any: its scenarios and states are of its own kind."""
    task = make(name, preset)
    assert isinstance(task, RuleTask)
    return task


def trajectory(scenario_id: str, seed: int, conversation: Conversation) -> Trajectory:
    turns = [Turn(k, k + 1, (-1.0,), "stop") for k, _ in enumerate(assistant_texts(conversation))]
    return Trajectory(
        scenario_id=scenario_id,
        group_id="g",
        seed=seed,
        conversation=conversation,
        token_ids=tuple(range(len(turns))),
        turns=tuple(turns),
        outcome=Outcome(1.0),
        ending=Ending.TASK_DONE,
    )


@pytest.mark.parametrize("name", ["guess", "clarify"])
def test_the_exact_judge_knows_what_each_turn_told_and_whether_the_end_was_right(name: str) -> None:
    task = exact(name, "easy")
    for seed in range(20):
        scenario = task.scenario(seed)
        conversation = task.demonstration(scenario, seed)
        weights = informed_weights(task, scenario, seed, conversation)
        gain = task.information_gain(scenario, conversation, seed)
        recall = task.outcome(scenario, conversation, seed).parts["recall"]
        assert weights[:-1] == tuple(max(0.0, nats) for nats in gain[:-1])
        assert weights[-1] == pytest.approx(max(0.0, gain[-1]) + recall)


def test_an_end_is_judged_without_the_noise_of_its_outcome() -> None:
    task = exact("clarify", "credit-hard")
    scenario = task.scenario(1)
    conversation = task.demonstration(scenario, 1)
    # With "bernoulli" the score is a coin of that chance; the judge is given the chance.
    recall = task.outcome(scenario, conversation, 1).parts["recall"]
    noisy = {task.outcome(scenario, conversation, seed).score for seed in range(50)}
    assert 0 < recall < 1 and noisy <= {0.0, 1.0}
    gains = task.information_gain(scenario, conversation, 1)
    expected = max(0.0, gains[-1]) + recall
    assert informed_weights(task, scenario, 1, conversation)[-1] == pytest.approx(expected)


def test_a_right_guess_has_weight_beside_the_questions_before_it() -> None:
    task = exact("guess", "easy")
    scenario = task.scenario(0)
    asked, _ = play(task, scenario, scripted(["is it round ?", "is it big ?"]), 0)
    seen = informed_weights(task, scenario, 0, asked[:4])
    assert seen[0] > 0
    guess = Message("assistant", f"it is the {task.secrets(scenario)[0]} .")
    weights = informed_weights(task, scenario, 0, (*asked[:3], guess))
    assert weights[0] == seen[0]
    assert weights[1] >= 1.0


def test_rules_judge_a_steps_dialogues_by_their_own_scenarios() -> None:
    task = exact("guess", "easy")
    jury = build_judge(JudgeConfig(), task)
    played = []
    for seed in (3, 4):
        scenario = task.scenario(seed)
        played.append(trajectory(scenario.id, 7, task.demonstration(scenario, 7)))
    score_BK, metrics = asyncio.run(judged_turn_scores(jury, played))
    for row, one in zip(score_BK.tolist(), played, strict=True):
        scenario = task.scenario(int(one.scenario_id.rsplit("-", 1)[1]))
        expected = informed_weights(task, scenario, 7, one.conversation)
        assert row[: len(expected)] == pytest.approx(expected)
    assert metrics["judge/requests"] == metrics["judge/failed"] == 0.0


def test_rules_need_a_task_that_knows_its_truth() -> None:
    with pytest.raises(ConfigError, match='judge.kind = "llm"'):
        build_judge(JudgeConfig(), Yes())


def llm(url: str, cache: str = "", **more: object) -> JudgeConfig:
    facts = {"kind": "llm", "base_url": url, "model": "m", "retries": 0, "cache": cache, **more}
    return JudgeConfig.model_validate(facts)


def test_a_model_is_asked_once_before_anything_begins() -> None:
    with serving(in_turn(Reply("yes"))) as server:
        jury = build_judge(llm(server.url), Yes())
        assert len(server.bodies) == jury.spent.requests == 1


def test_a_model_judges_without_the_hidden_facts(tmp_path: Path) -> None:
    task = exact("guess", "easy")
    scenario = task.scenario(0)
    conversation, _ = play(task, scenario, scripted(["is it round ?"]), 0)
    one = trajectory(scenario.id, 0, conversation)
    ones = '{"weights": [' + ", ".join("1" for _ in one.turns) + "]}"
    with serving(in_turn(Reply("yes"), Reply(ones))) as server:
        jury = build_judge(llm(server.url, str(tmp_path / "cache")), task)
        score_BK, _ = asyncio.run(judged_turn_scores(jury, [one]))
        assert score_BK.tolist() == [[1.0] * len(one.turns)]
        sent = str(server.bodies)
    assert "is it round ?" in sent
    assert scenario.id not in sent
    said = " ".join(message.content for message in conversation)
    assert all(secret not in sent for secret in task.secrets(scenario) if secret not in said)
    files = list((tmp_path / "cache").rglob("*.json"))
    assert len(files) == 1
    assert KEY not in files[0].read_text()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"base_url": ""}, "judge.base_url"),
        ({"model": ""}, "judge.model"),
        ({"api_key_env": "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE"),
        ({"base_url": "ftp://x"}, "address"),
    ],
)
def test_what_is_missing_is_named_before_anything_is_sent(
    change: dict[str, object], words: str
) -> None:
    with serving(in_turn(Reply("yes"))) as server:
        with pytest.raises(ConfigError, match=words):
            build_judge(llm(server.url).model_copy(update=change), Yes())
        assert server.bodies == []


def test_a_wrong_key_is_named_before_the_first_dialogue() -> None:
    wrong = in_turn(Reply(status=401, body=f"wrong key {KEY}".encode()))
    with serving(wrong) as server, pytest.raises(ConfigError, match="wrong key") as error:
        build_judge(llm(server.url), Yes())
    assert KEY not in str(error.value)


def test_a_run_with_a_model_as_judge_holds_its_numbers_and_not_the_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(sent: Mapping[str, object]) -> Reply:
        turns = re.search(r"JSON object of (\d+) weights", str(sent["messages"]))
        numbers = range(1, int(turns[1]) + 1) if turns else ()
        return Reply(f'{{"weights": {list(numbers)}}}')

    with caplog.at_level(logging.DEBUG), serving(answer) as server:
        judge = (f"judge.base_url={server.url}", "judge.model=m", "judge.kind=llm")
        config = settings(tmp_path / "run", "method.credit=judge", *judge)
        folder = RunFolder(jobs.train(config).run_folder)
        assert server.keys == [f"Bearer {KEY}"] * len(server.bodies)
    [row] = [row for row in read_metrics(folder.metrics) if row["kind"] == "train"]
    assert row["credit/judge/valid"] == 1.0
    assert row["judge/failed"] == 0.0
    asked, cached = row["judge/requests"], row["judge/cached"]
    assert isinstance(asked, float) and isinstance(cached, float)
    assert asked >= 1 and asked + cached == 4
    files = [path for path in folder.path.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
    assert KEY not in caplog.text
