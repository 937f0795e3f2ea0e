"""`turnwise credit`: the same turns by several methods, from a run, from Parquet, from JSONL."""

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner, Result

from tests.cli.test_jobs import Listening, contents, settings
from tests.endpoints.server import Reply, serving
from turnwise.backends.loading import load_backend
from turnwise.cli import jobs
from turnwise.cli.assemble import cache_directory
from turnwise.cli.credit_sources import NEED_OUTCOMES, Sources, check_sources, checked_names, lack
from turnwise.cli.main import app
from turnwise.conversation import Ending, Outcome, Trajectory
from turnwise.errors import ConfigError, RecordError, RunFolderError, TokensError, TurnwiseError
from turnwise.records import (
    Record,
    RunFolder,
    read_trajectories,
    to_jsonl,
    write_trajectories,
)
from turnwise.tokens import turn_batch
from turnwise.training.config import CreditName

ALL = [
    *("trajectory", "uniform", "random", "judge", "prime", "value"),
    *("itpo", "itpo-norm", "infopo", "lookahead", "oracle"),
]
BOTH = "method.credit={itpo-norm = 1.0, value = 0.5}"  # a run with a reward model and a critic


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one step that trained a reward model and a critic."""
    folder = tmp_path_factory.mktemp("runs") / "both"
    overrides = [BOTH, "train.num_generations=3", "prm.learning_rate=1e-2", "prm.trust=false"]
    overrides += ["critic.learning_rate=1e-2", "rollout.max_turn_tokens=4"]
    return jobs.train(settings(folder, *overrides)).run_folder


@pytest.fixture(scope="module")
def model(run: Path) -> str:
    """The tiny model that the run started from: neither reward model nor critic."""
    return str(next(cache_directory().glob("tiny-*")))


def records_of(folder: Path) -> list[Record]:
    return read_trajectories(folder / "credit.parquet")


def test_a_run_is_credited_by_every_method_at_once(run: Path, tmp_path: Path) -> None:
    observer = Listening()
    result = jobs.credit(run, methods=ALL, output=tmp_path / "out", observer=observer)
    assert {path.name for path in result.folder.iterdir()} == {
        "credit.parquet",
        "agreement.json",
        "credit.html",
    }
    played = read_trajectories(RunFolder(run).training_dialogues(1))
    assert result.source == str(RunFolder(run).training_dialogues(1))
    records = records_of(result.folder)
    assert [r.trajectory for r in records] == [r.trajectory for r in played]
    assert {(r.step, r.split) for r in records} == {(1, "train")}
    assert all(list(r.credit) == ALL for r in records)
    assert {"reward model", "critic", "information", "judge", "continuations", "truth"} <= set(
        observer.phases
    )
    found = json.loads((result.folder / "agreement.json").read_text("utf-8"))
    assert found["num_dialogues"] == len(played) == 6
    assert found["methods"] == ALL
    assert found["agreement"]["itpo"]["value"] == found["agreement"]["value"]["itpo"]
    # Rewards of tokens, summed over a turn, are the turn's.
    assert found["agreement"]["itpo"]["prime"]["within_dialogues"] == pytest.approx(1.0)
    assert found["truth"]["exact_credit"]["oracle"]["overall"] == pytest.approx(1.0)
    assert all(name in result.page.read_text("utf-8") for name in ALL)


def test_the_models_are_those_of_the_newest_checkpoint(run: Path, tmp_path: Path) -> None:
    # The final models credited the dialogues of the last evaluation when training ended.
    methods = ("itpo-norm", "itpo", "value", "oracle")
    result = jobs.credit(run, methods=methods, split="eval", output=tmp_path)
    written = read_trajectories(RunFolder(run).evaluation_dialogues(1))
    for now, then in zip(records_of(result.folder), written, strict=True):
        assert (now.step, now.split) == (then.step, then.split) == (1, "eval")
        for method in methods:
            assert now.credit[method] == pytest.approx(then.credit[method], abs=1e-6), method
        assert now.measures["value"] == pytest.approx(then.measures["value"], abs=1e-6)
    sizes = {abs(number) for r in written for number in r.credit["itpo"]}
    assert max(sizes) > 1e-3  # an untrained reward model would say 0 everywhere


def test_credit_beside_its_source_is_where_it_goes(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    assert jobs.credit(copy, methods=["uniform"]).folder == copy / "credit"
    file = tmp_path / "some.parquet"
    shutil.copy(RunFolder(run).training_dialogues(1), file)
    result = jobs.credit(file, methods=["itpo"], model=str(run))
    assert result.folder == tmp_path / "credit"
    result = jobs.credit(run, methods=["itpo"], output=tmp_path / "other")
    for of_file, of_run in zip(
        records_of(tmp_path / "credit"), records_of(tmp_path / "other"), strict=True
    ):
        assert of_file.credit["itpo"] == pytest.approx(of_run.credit["itpo"])


def test_settings_of_a_credit_can_be_overridden_and_others_not(run: Path, tmp_path: Path) -> None:
    longest = {}
    for score in ("mean", "sum"):
        override = f"info.score={score}"
        result = jobs.credit(run, methods=["infopo"], overrides=[override], output=tmp_path)
        gains = [abs(g) for r in records_of(result.folder) for g in r.credit["infopo"]]
        longest[score] = max(gains)
    assert longest["sum"] > longest["mean"] > 0  # a sum over several tokens
    for override in ("train.max_steps=3", "method.credit=itpo", "seed=1"):
        with pytest.raises(ConfigError, match="expected a key of info, judge"):
            jobs.credit(run, methods=["infopo"], overrides=[override])
    with pytest.raises(ConfigError, match=r"did you mean info\.fill"):
        jobs.credit(run, methods=["infopo"], overrides=["info.fll=gap"])
    with pytest.raises(ConfigError, match=r"info\.placeholder is empty"):
        jobs.credit(run, methods=["infopo"], overrides=["info.placeholder="])
    with pytest.raises(ConfigError, match=r"judge\.base_url.*\npossible here"):
        jobs.credit(run, methods=["judge"], overrides=["judge.kind=llm"])
    with pytest.raises(ConfigError, match=r"judge\.model.*\npossible here"):
        jobs.credit(
            run, methods=["judge"], overrides=["judge.kind=llm", "judge.base_url=http://x/v1"]
        )


@dataclass
class Warned(Listening):
    warnings: list[str] = field(default_factory=list)

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def test_a_judge_that_fails_is_heard_of(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    observer = Warned()
    with serving(lambda sent: Reply("I would rather not say")) as server:
        overrides = ["judge.kind=llm", f"judge.base_url={server.url}", "judge.model=m"]
        overrides += ['judge.api_key_env=""', "judge.retries=0"]
        jobs.credit(run, methods=["judge"], overrides=overrides, output=tmp_path, observer=observer)
    [warning] = observer.warnings
    assert warning.startswith("6 of 6 dialogues have no judgement")


def test_a_limit_leaves_groups_whole(run: Path, tmp_path: Path) -> None:
    for limit, expected in ((1, 3), (3, 3), (4, 6), (99, 6)):
        result = jobs.credit(run, methods=["uniform"], limit=limit, output=tmp_path)
        assert result.study.num_dialogues == expected


# Conversations of others


def said(*texts: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


YS: tuple[dict[str, float], ...] = ({"score": 1.0}, {})  # of one that was judged, and one not
THREE_TURNS = said("a room , please .", "which day ?", "friday .", "the size ?", "six .", "book it")


def written(folder: Path, *rows: object) -> Path:
    file = folder / "said.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def test_logged_conversations_get_tokens_and_the_policys_log_probabilities(
    model: str, tmp_path: Path
) -> None:
    row = {"messages": THREE_TURNS, "score": 0.75, "group_id": "g", "unknown": {}}
    file = written(tmp_path, row, THREE_TURNS, {"messages": THREE_TURNS, "outcome": 0})
    result = jobs.credit(file, methods=["uniform", "infopo"], model=model)
    assert result.left_out == {"no outcome": 1}
    first, second = (record.trajectory for record in records_of(result.folder))
    assert (first.group_id, first.outcome.score, second.outcome.score) == ("g", 0.75, 0.0)
    assert [message.content for message in first.conversation][-1] == "book it"
    backend = load_backend(model)
    logp_T = backend.reference().logp(turn_batch([first]))[0]
    for turn in first.turns:
        expected = logp_T[turn.start : turn.stop].tolist()
        assert turn.logp_behaviour == pytest.approx(expected, abs=1e-5)
        assert all(number < 0 for number in turn.logp_behaviour)
    gains = records_of(result.folder)[0].measures["infopo/gain"]
    assert [gain is None for gain in gains] == [False, False, True]


def test_without_outcomes_what_reads_none_can_be_asked(model: str, run: Path) -> None:
    file = written(run.parent, {"messages": THREE_TURNS}, {"messages": THREE_TURNS, "score": None})
    with pytest.raises(ConfigError, match="method uniform credits the outcome") as caught:
        jobs.credit(file, methods=["uniform", "infopo"], model=model)
    assert str(caught.value).splitlines()[-1] == "possible here: infopo"
    result = jobs.credit(file, methods=["infopo", "itpo", "prime"], model=str(run))
    for record in records_of(result.folder):
        assert record.trajectory.outcome == Outcome(None)
        assert record.group_measures == {}  # a spread of outcomes would be made up
    assert result.study.num_dialogues == 2
    assert result.study.truth == {}
    mixed = written(run.parent, *({"messages": THREE_TURNS, **y, "group_id": "g"} for y in YS))
    result = jobs.credit(mixed, methods=["infopo"], model=model)
    assert [r.trajectory.outcome.score for r in records_of(result.folder)] == [1.0, None]
    assert [r.group_measures for r in records_of(result.folder)] == [{}, {}]


def test_a_gain_needs_no_sibling_to_be_measured(model: str, tmp_path: Path) -> None:
    file = written(tmp_path, {"messages": THREE_TURNS[:4]})
    result = jobs.credit(file, methods=["infopo"], model=model)
    [record] = records_of(result.folder)
    assert record.measures["infopo/gain"][0] is not None


def test_our_own_jsonl_knows_its_truth_again(run: Path, tmp_path: Path) -> None:
    played = read_trajectories(RunFolder(run).training_dialogues(1))
    to_jsonl(tmp_path / "own.jsonl", played)
    result = jobs.credit(
        tmp_path / "own.jsonl", methods=["oracle", "judge", "lookahead"], model=str(run)
    )
    direct = jobs.credit(run, methods=["oracle", "judge"], output=tmp_path / "direct")
    for again, there in zip(records_of(result.folder), records_of(direct.folder), strict=True):
        for method in ("oracle", "judge"):
            assert again.credit[method] == pytest.approx(there.credit[method])
        assert again.trajectory.group_id == there.trajectory.group_id
        assert sum(again.credit["lookahead"]) == pytest.approx(sum(there.credit["oracle"]), abs=2)


def test_a_conversation_of_one_turn_has_its_outcome_and_no_agreement(
    run: Path, model: str, tmp_path: Path
) -> None:
    file = written(tmp_path, {"messages": THREE_TURNS[:2], "outcome": 0.5})
    result = jobs.credit(file, methods=["uniform", "random", "itpo"], model=str(run))
    [record] = records_of(result.folder)
    assert record.credit["uniform"] == record.credit["random"] == (0.5,)
    found = json.loads((result.folder / "agreement.json").read_text("utf-8"))
    nothing = {"within_dialogues": None, "num_dialogues": 0, "overall": None}
    assert found["agreement"]["uniform"]["random"] == nothing
    assert "there is no agreement" in result.page.read_text("utf-8")
    with pytest.raises(ConfigError, match="no dialogue here has a reply between two turns"):
        jobs.credit(file, methods=["infopo"], model=model)


# What is refused

COMPLETE = Sources(
    model="runs/one",
    has_prm=True,
    has_critic=True,
    task="clarify easy",
    is_of_task=True,
    knows_truth=True,
    judges_by_truth=True,
    judge_lacks="",
    has_outcomes=True,
    has_siblings=True,
    has_feedback=True,
)
LACKING: dict[str, tuple[Sources, str, set[str]]] = {
    "outcomes": (
        replace(COMPLETE, has_outcomes=False),
        "no dialogue has one",
        set(NEED_OUTCOMES),
    ),
    "reward model": (
        replace(COMPLETE, has_prm=False),
        "needs an implicit reward model, and runs/one has none",
        {"itpo", "itpo-norm", "prime"},
    ),
    "critic": (
        replace(COMPLETE, has_critic=False),
        "needs a critic, and runs/one has none",
        {"value"},
    ),
    "truth": (
        replace(COMPLETE, knows_truth=False),
        "clarify easy does not",
        {"oracle", "judge"},
    ),
    "truth but a judge": (
        replace(COMPLETE, knows_truth=False, judges_by_truth=False),
        "clarify easy does not",
        {"oracle"},
    ),
    "a judge's address": (
        replace(COMPLETE, judges_by_truth=False, judge_lacks="judge.base_url"),
        "needs judge.base_url",
        {"judge"},
    ),
    "a task": (
        replace(COMPLETE, knows_truth=False, is_of_task=False, task=""),
        "say with --task and --preset",
        {"oracle", "judge", "lookahead"},
    ),
    "scenarios": (
        replace(COMPLETE, knows_truth=False, is_of_task=False),
        "not all of clarify easy",
        {"oracle", "judge", "lookahead"},
    ),
    "siblings": (
        replace(COMPLETE, has_siblings=False),
        "a dialogue here has none",
        {"lookahead"},
    ),
    "feedback": (
        replace(COMPLETE, has_feedback=False),
        "no dialogue here has a reply between two turns",
        {"infopo"},
    ),
}


@pytest.mark.parametrize("missing", LACKING)
def test_a_method_without_its_source_is_refused_with_what_is_possible(missing: str) -> None:
    sources, reason, refused = LACKING[missing]
    names = checked_names(ALL)
    assert {name for name in names if lack(name, sources)} == refused
    with pytest.raises(ConfigError) as caught:
        check_sources(names, sources)
    *lines, last = str(caught.value).splitlines()
    assert len(lines) == len(refused)
    assert all(line.startswith("method ") and reason in line for line in lines)
    possible = last.removeprefix("possible here: ").split(", ")
    assert set(possible) == set(ALL) - refused
    check_sources([name for name in names if name not in refused], sources)
    check_sources(names, COMPLETE)


def test_dialogues_of_another_task_have_no_truth_here(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not all of clarify medium"):
        jobs.credit(run, methods=["oracle"], preset="medium")
    result = jobs.credit(run, methods=["itpo"], preset="medium", output=tmp_path)
    assert result.study.truth == {}


def test_siblings_are_needed_to_look_ahead(run: Path) -> None:
    with pytest.raises(ConfigError, match="method lookahead takes the value"):
        jobs.credit(run, methods=["lookahead"], split="eval")


@pytest.mark.parametrize(
    ("methods", "part"),
    [
        ([""], "expected methods such as"),
        ([], "expected methods such as"),
        (["itpo", ""], 'unknown method ""'),
        (["itpo-nrom"], 'did you mean "itpo-norm"'),
        (["itpo", "value", " itpo"], "found itpo twice"),
    ],
)
def test_methods_are_known_and_come_once(methods: Sequence[str], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        checked_names(methods)
    assert checked_names([" itpo", "value "]) == ["itpo", "value"]


BROKEN: dict[str, tuple[str, str]] = {
    "no JSON": ('{"messages": []', "line 2"),
    "not an object": ("7", "line 2"),
    "no messages": ('{"text": "a"}', "line 2"),
    "no assistant": (
        json.dumps({"messages": THREE_TURNS[:1], "score": 1}),
        "line 2.*has an assistant message",
    ),
    "no user": (
        json.dumps({"messages": THREE_TURNS[1:2], "score": 1}),
        "line 2.*starts with a user message",
    ),
    "two in a row": (
        json.dumps({"messages": [*THREE_TURNS[:2], THREE_TURNS[1]], "score": 1}),
        "line 2.*merge them",
    ),
    "outcome above 1": (
        json.dumps({"messages": THREE_TURNS, "outcome": 1.5}),
        r"line 2.*1.5 as outcome, which is a number in \[0, 1\] or null",
    ),
    "outcome NaN": ('{"messages": [], "score": NaN}', "line 2.*nan as score"),
    "outcome a word": (json.dumps({"messages": THREE_TURNS, "score": "good"}), "'good' as score"),
    "outcome a bool": (json.dumps({"messages": THREE_TURNS, "outcome": True}), "True as outcome"),
    "two outcomes": (
        json.dumps({"messages": THREE_TURNS, "outcome": 1, "score": 0.5}),
        "line 2.*two outcomes",
    ),
    "group a number": (json.dumps({"messages": THREE_TURNS, "group_id": 3}), "3 as group_id"),
    "seed a text": (json.dumps({"messages": THREE_TURNS, "seed": "a"}), "'a' as seed"),
    "ending unknown": (json.dumps({"messages": THREE_TURNS, "ending": "bye"}), "'bye' as ending"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_line_is_named(fault: str, model: str, tmp_path: Path) -> None:
    line, part = BROKEN[fault]
    good = json.dumps({"messages": THREE_TURNS, "score": 1})
    file = tmp_path / "said.jsonl"
    file.write_text(f"{good}\n{line}\n", encoding="utf-8")
    with pytest.raises(RecordError, match=part) as caught:
        jobs.credit(file, methods=["uniform"], model=model)
    assert str(file) in str(caught.value)
    assert list(tmp_path.iterdir()) == [file]


def test_line_separators_inside_a_text_end_no_line(model: str, tmp_path: Path) -> None:
    file = tmp_path / "said.jsonl"
    row = {"messages": said("a\u2028room", "which\x85day ?"), "score": 1}
    file.write_text("\ufeff" + json.dumps(row, ensure_ascii=False) + "\r\n", encoding="utf-8")
    result = jobs.credit(file, methods=["uniform"], model=model)
    assert records_of(result.folder)[0].trajectory.conversation[0].content == "a\u2028room"


def test_what_holds_no_dialogue_is_refused(run: Path, model: str, tmp_path: Path) -> None:
    def refusal(path: Path) -> str:
        with pytest.raises(TurnwiseError) as caught:
            jobs.credit(path, methods=["uniform"], model=model)
        return str(caught.value)

    empty, image, cut = tmp_path / "empty.jsonl", tmp_path / "a.png", tmp_path / "cut.parquet"
    empty.touch()
    image.write_bytes(b"\x89PNG\r\n\xff\xfe")
    whole = RunFolder(run).training_dialogues(1).read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    none, renamed = tmp_path / "none.parquet", tmp_path / "renamed.parquet"
    write_trajectories(none, [])
    renamed.write_bytes(b"no Parquet")
    assert "holds no conversation" in refusal(empty)
    assert "cannot be read" in refusal(image)
    assert "not a whole Parquet file" in refusal(cut)
    assert "holds no dialogue" in refusal(none)
    assert "not a Parquet file" in refusal(renamed)
    assert "found nothing" in refusal(tmp_path / "nothing.jsonl")
    assert "expected the folder of a run" in refusal(tmp_path)
    assert not (tmp_path / "credit").exists()


def test_a_file_says_which_model_and_no_split(run: Path, model: str) -> None:
    file = RunFolder(run).training_dialogues(1)
    with pytest.raises(ConfigError, match="--model"):
        jobs.credit(file, methods=["uniform"])
    with pytest.raises(ConfigError, match="--preset easy is of a task"):
        jobs.credit(file, methods=["uniform"], model=model, preset="easy")
    with pytest.raises(ConfigError, match="--split chooses among the files of a run"):
        jobs.credit(file, methods=["uniform"], split="train", model=str(run))


def test_a_split_that_was_not_played_is_named(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    RunFolder(copy).evaluation_dialogues(1).unlink()
    with pytest.raises(RecordError, match="split eval.*--split may be train, start"):
        jobs.credit(copy, methods=["uniform"], split="eval")
    assert jobs.credit(copy, methods=["uniform"], split="start").study.num_dialogues == 3


def test_the_tokens_of_another_model_are_refused(run: Path, tmp_path: Path) -> None:
    def in_other_words(one: Trajectory) -> Trajectory:
        return replace(one, token_ids=tuple(max(0, i - 1) for i in one.token_ids))

    played = read_trajectories(RunFolder(run).training_dialogues(1))
    file = tmp_path / "foreign.parquet"
    write_trajectories(file, [replace(r, trajectory=in_other_words(r.trajectory)) for r in played])
    with pytest.raises(TokensError, match="another model wrote it"):
        jobs.credit(file, methods=["uniform"], model=str(run))
    assert not (tmp_path / "credit").exists()


def test_dialogues_that_broke_off_are_left_out_and_counted(run: Path, tmp_path: Path) -> None:
    played = read_trajectories(RunFolder(run).training_dialogues(1))
    cut = [
        replace(r, trajectory=replace(r.trajectory, ending=Ending.SPEAKER_FAILED))
        for r in played[:2]
    ]
    write_trajectories(tmp_path / "some.parquet", [*cut, *played[2:]])
    result = jobs.credit(tmp_path / "some.parquet", methods=["uniform"], model=str(run))
    assert (result.left_out, result.study.num_dialogues) == ({"broken off": 2}, 4)
    assert "2 dialogues: broken off" in result.page.read_text("utf-8")
    write_trajectories(tmp_path / "none.parquet", cut)
    with pytest.raises(RecordError, match="no dialogue of .* can be credited"):
        jobs.credit(tmp_path / "none.parquet", methods=["uniform"], model=str(run))


def test_nothing_is_written_where_it_fails(run: Path, tmp_path: Path) -> None:
    before = contents(run)
    taken = tmp_path / "taken"
    taken.write_text("mine", encoding="utf-8")
    with pytest.raises(RunFolderError, match="found a file"):
        jobs.credit(run, methods=["uniform"], output=taken)
    broken = tmp_path / "run"
    shutil.copytree(run, broken)
    shutil.rmtree(broken / "checkpoints")
    with pytest.raises(TurnwiseError, match="expected a checkpoint"):
        jobs.credit(broken, methods=["uniform"])
    assert contents(run) == before
    assert not (broken / "credit").exists()


# From the command line


def turnwise(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["credit", *(str(argument) for argument in arguments)])


def test_the_command_prints_tables_and_where_the_page_is(run: Path, tmp_path: Path) -> None:
    result = turnwise(
        run, "info.score=sum", "--methods", "itpo,infopo", "--output", tmp_path, "--quiet"
    )
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    for part in ("1 itpo", "2 infopo", "agreement with the exact credit", "mean credit of turn"):
        assert part in result.stdout
    assert f"page    {tmp_path / 'credit.html'}" in result.stdout
    loud = turnwise(run, "--methods", "itpo", "--output", tmp_path)
    assert "reward model ..." in loud.stderr


def test_the_command_prints_the_same_as_json(run: Path, tmp_path: Path) -> None:
    result = turnwise(run, "--methods", "itpo,oracle", "--output", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    *events, last = (json.loads(line) for line in result.stdout.splitlines())
    assert {event["event"] for event in events} == {"phase"}
    assert last["event"] == "result"
    saved = json.loads((tmp_path / "agreement.json").read_text("utf-8"))
    assert {key: last[key] for key in saved} == saved
    means = last["mean_credit_by_turn"]["oracle"]
    firsts = [record.credit["oracle"][0] for record in records_of(tmp_path)]
    assert means[0]["mean"] == pytest.approx(math.fsum(firsts) / len(firsts))
    assert means[0]["count"] == len(firsts)


def test_a_mistake_is_one_block_without_a_traceback(run: Path) -> None:
    result = turnwise(run, "--methods", "itpo-nrom")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith('config error: unknown method "itpo-nrom"')
    assert "Traceback" in turnwise(run, "--methods", "itpo-nrom", "--debug").stderr
    assert "expected methods such as" in turnwise(run).stderr


def test_every_method_is_known_to_the_tests() -> None:
    names = checked_names(ALL)
    assert set(names) == set(get_args(CreditName))
