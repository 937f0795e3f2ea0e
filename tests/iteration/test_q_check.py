"""Conversations of two replies, each "yes" or "no": a yes adds .3 to a chance of .2 to succeed."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.endpoints.server import Reply, Sent, serving
from tests.iteration.logged import heard, logged, said, settings
from tests.rollouts.toy import CHAT, TOKENIZER, backend, ids
from turnwise.analysis import GateReport
from turnwise.backends import AdapterSpec
from turnwise.backends.local import LocalBackend
from turnwise.backends.tiny import tiny_model
from turnwise.conversation import LoggedConversation, LoggedOutcome, Trajectory, Turn
from turnwise.errors import ConfigError
from turnwise.iteration.config import IterateConfig
from turnwise.iteration.episodes import Episode, build_episodes
from turnwise.iteration.held_out_steps import (
    held_out_values,
    judged_steps,
    residuals,
    shuffled_rows,
)
from turnwise.iteration.prompted_judge import prompted_judge
from turnwise.iteration.q_check import check_q
from turnwise.iteration.q_model import QValues
from turnwise.tokens import turn_batch
from turnwise.users.chance import uniform

YES, NO = ids("yes")[0], ids("no")[0]
WORDS = {"verdict_question": "go", "verdict_yes": "yes", "verdict_no": "no"}
CONFIG = settings({"q": WORDS, "gate": {"num_bootstrap": 300}, "rollout": {"max_turn_tokens": 4}})


def conversation(number: int) -> LoggedConversation:
    """Conversations 2i and 2i + 1 are of one customer; every ninth is in German."""
    draws = [uniform(number, name) for name in ("first", "second", "outcome")]
    first, second = (draw < 0.5 for draw in draws[:2])
    return logged(
        heard("hello"),
        said("yes" if first else "no"),
        heard("go"),
        said("yes" if second else "no"),
        outcome=float(draws[2] < 0.2 + 0.3 * (first + second)),
        name=f"c{number}",
        customer_key=f"hmac:{number // 2}",
        language="en" if number % 9 else "de",
    )


def episodes(number: int = 800) -> list[Episode]:
    found, _ = build_episodes(map(conversation, range(number)), CHAT, CONFIG, round=0, version="v1")
    return found


def chance(token_ids: Sequence[int]) -> float:
    """Of success after these replies, if those to come say yes with an even chance."""
    said_yes, said_no = token_ids.count(YES), token_ids.count(NO)
    return 0.2 + 0.3 * (said_yes + 0.5 * (2 - said_yes - said_no))


@dataclass(frozen=True)
class Exact:
    """The Q-function that is true; its heads lie around it where a reply says bye."""

    q: Callable[[Sequence[int], int, int], float] = lambda tokens, start, stop: chance(
        tokens[:stop]
    )
    spread: float = 0.01

    def values(self, rows: Sequence[Trajectory]) -> QValues:
        K = max(len(row.turns) for row in rows)
        q_BK, v_BK = torch.zeros(len(rows), K), torch.zeros(len(rows), K)
        for b, row in enumerate(rows):
            for k, turn in enumerate(row.turns):
                q_BK[b, k] = self.q(row.token_ids, turn.start, turn.stop)
                v_BK[b, k] = chance(row.token_ids[: turn.start])
        heads = torch.tensor([-self.spread, self.spread])[:, None, None]
        return QValues(q_BK + heads, v_BK.expand(2, -1, -1), None)


@dataclass(frozen=True)
class Pair:
    a: Exact = Exact()
    b: Exact = Exact()
    slopes: tuple[float, ...] = (1.0, 1.0)
    facts: Mapping[str, object] = field(default_factory=lambda: {"targets": "mc"})


def checked(
    pair: Pair = Pair(),
    rows: list[Episode] | None = None,
    config: IterateConfig = CONFIG,
    *,
    samples: bool = True,
) -> GateReport:
    on = backend()
    sampler = on.create("policy", AdapterSpec()).publish() if samples else None
    given = episodes() if rows is None else rows
    return check_q(pair, given, config, backend=on, chat=CHAT, sampler=sampler)


def verdicts(report: GateReport) -> dict[str, str]:
    return {check.name: check.verdict for check in report.gate.checks}


def changed(**gate: object) -> IterateConfig:
    return CONFIG.model_copy(update={"gate": CONFIG.gate.model_copy(update=gate)})


def test_the_gate_opens_for_the_true_q_and_writes_what_it_found(tmp_path: Path) -> None:
    report = checked()
    assert report.is_open, report.gate.refusal
    # A yes is longer than a no: here Q follows the length of replies, and rightly so.
    assert [name for name, one in verdicts(report).items() if one != "passes"] == ["G8"]
    assert "with length" in report.gate.warnings[0]
    assert (report.gate.num_steps, report.gate.num_customers) == (1600, 400)
    # All contexts before a first reply are one; Q ranks yes before no, as returns do more often.
    agreement, pairs = report.ranking
    assert agreement > 0.55 and pairs > 1000
    page = report.save(tmp_path)
    assert page.name == "gate.html" and "the base model" in page.read_text(encoding="utf-8")
    assert json.loads((tmp_path / "gate.json").read_text(encoding="utf-8"))["is_open"] is True


def test_the_gate_stays_shut_for_a_q_blind_to_the_reply() -> None:
    blind = Exact(lambda tokens, start, stop: chance(tokens[:start]))
    report = checked(Pair(blind, blind))
    assert not report.is_open
    assert {name for name, one in verdicts(report).items() if one == "refuses"} == {"G1", "G2"}
    assert "Q does not depend on the reply" in report.gate.refusal


def test_each_customer_is_judged_by_the_model_that_did_not_train_on_it() -> None:
    """Both models know their own customers' outcomes by heart and nothing else: no use here."""
    rows = episodes(100)
    outcome = {row.trajectory.token_ids: row.outcome for row in rows}
    zero, one = Exact(lambda *_: 0.0), Exact(lambda *_: 1.0)
    values = held_out_values(
        Pair(a=zero, b=one), [row.trajectory for row in rows], [row.fold for row in rows]
    )
    assert len(outcome) <= 4 and {row.fold for row in rows} == {0, 1}
    for row, q_K in zip(rows, values.q_BK, strict=True):
        assert q_K.tolist() == [1.0 - row.fold] * 2  # B speaks of fold A, A of fold B


def test_what_has_no_return_is_left_out_and_said() -> None:
    rows = episodes(400)
    censored = replace(rows[0], has_mc=(False, False))
    human = replace(rows[1], trains_q=(True, False))
    turns = rows[2].trajectory.turns
    cut = (turns[0], replace(turns[1], stop_reason="length"))
    rows[:3] = [
        censored,
        human,
        replace(rows[2], trajectory=replace(rows[2].trajectory, turns=cut)),
    ]
    report = checked(rows=rows)
    assert report.gate.num_steps == 800 - 4
    assert sorted(note.split(":")[0] for note in report.notes) == [
        "1 steps left out", "1 steps left out", "2 steps left out",
    ]  # fmt: skip


def test_too_few_conversations_or_none_shut_the_gate(tmp_path: Path) -> None:
    assert "gate G4: expected at least 30 customers" in checked(rows=episodes(40)).gate.refusal
    nothing = [replace(one, has_mc=(False, False)) for one in episodes(4)]
    report = checked(rows=nothing)
    assert not report.is_open and "found 0 customers" in report.gate.refusal
    assert report.save(tmp_path).is_file()


def test_a_q_of_another_policy_than_the_returns_is_told_of() -> None:
    of_whom = [replace(one, collected_by=None) for one in episodes(40)]
    assert not any("two policies" in note for note in checked(rows=of_whom).notes)
    sampled = Pair(facts={"targets": "fqe"})
    assert any("two policies" in note for note in checked(sampled, of_whom).notes)
    assert not any("two policies" in note for note in checked(sampled, episodes(40)).notes)


def test_a_falling_calibration_shuts_the_gate() -> None:
    assert verdicts(checked(Pair(slopes=(1.0, -0.2))))["slope"] == "refuses"


def test_a_shuffled_reply_is_another_steps_of_the_same_turn() -> None:
    steps, _ = judged_steps(episodes(50))
    rows = shuffled_rows(steps, seed=0)
    assert len(rows) == 100
    replies = {turn: [s.reply_ids for s in steps if s.turn_index == turn] for turn in (0, 1)}
    taken: dict[int, list[tuple[int, ...]]] = {0: [], 1: []}
    for n, row in rows.items():
        (only,) = row.turns
        assert row.token_ids[: only.start] == steps[n].prompt_ids
        taken[steps[n].turn_index].append(row.token_ids[only.start : only.stop])
    for turn in (0, 1):
        assert sorted(taken[turn]) == sorted(replies[turn])  # each is used once
    again = shuffled_rows(steps[::-1], seed=0)
    assert again[0].token_ids == rows[99].token_ids  # whatever the order of the steps
    assert shuffled_rows(steps[:1], seed=0) == {}


def test_residuals_by_hand() -> None:
    """After yes, yes and success: r + V(s') − Q at turn 1: 0 + γ·.65 − .65; at turn 2: 1 − .8."""
    row = next(
        one for one in episodes(50)
        if one.outcome == 1.0 and one.trajectory.token_ids.count(YES) == 2
    )  # fmt: skip
    steps, _ = judged_steps([row])
    values = held_out_values(Pair(), [row.trajectory], [row.fold])
    found_N = residuals(steps, [row], values, discount=0.9)
    assert found_N == pytest.approx([0.9 * 0.65 - 0.65, 0.2], abs=1e-6)
    last = replace(row, is_last=(False, False))  # of a conversation that goes on elsewhere
    assert np.isnan(residuals(judged_steps([last])[0], [last], values, discount=0.9)[1])


def test_a_policy_that_writes_what_q_never_saw_is_warned_of() -> None:
    report = checked()
    assert verdicts(report)["G7"] == "passes"
    known = {row.token_ids[t.start : t.stop] for row in (e.trajectory for e in episodes(8))
             for t in row.turns}  # fmt: skip

    class Unsure(Exact):
        def values(self, rows: Sequence[Trajectory]) -> QValues:
            found = super().values(rows)
            for b, row in enumerate(rows):
                if row.token_ids[row.turns[-1].start : row.turns[-1].stop] not in known:
                    found.q_EBK[:, b] *= torch.tensor([0.5, 1.5])[:, None]
            return found

    assert verdicts(checked(Pair(Unsure(), Unsure())))["G7"] == "warns"
    assert verdicts(checked(samples=False))["G7"] == "off"
    alike = Exact(spread=0.0)
    assert verdicts(checked(Pair(alike, alike)))["G7"] == "off"


def test_the_base_is_asked_after_each_reply_alike_with_branches_and_without() -> None:
    """p(yes) / (p(yes) + p(no)) after the row so far and the question, scored as one text."""
    on = LocalBackend(tiny_model(TOKENIZER, hidden_size=64, seed=3), TOKENIZER)
    rows, found = [one.trajectory for one in episodes(40)], []
    for has_branches in (True, False):
        on.capabilities = replace(on.capabilities, branches=has_branches)
        judge = prompted_judge(CONFIG, on)
        assert judge is not None
        found.append(judge.chances(rows))
    torch.testing.assert_close(found[0], found[1])
    turn, logp = rows[35].turns[1], []
    for word in (YES, NO):
        text = (*rows[35].token_ids[: turn.stop], *ids("go"), word)
        last = Turn(len(text) - 1, len(text), (0.0,), "stop")
        row = replace(rows[35], token_ids=text, turns=(last,))
        logp.append(float(on.reference().logp(turn_batch([row]))[0, -1]))
    expected = 1 / (1 + math.exp(logp[1] - logp[0]))
    assert float(found[0][35, 1]) == pytest.approx(expected, abs=1e-5)


def test_no_judge_is_asked_where_none_is_wanted() -> None:
    assert verdicts(checked(config=changed(judge="none"), samples=False))["G3"] == "off"


def test_an_endpoint_that_knows_more_shuts_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers by what it read; Q here knows nothing. Where it fails the step is left out."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def answer(sent: Sent) -> Reply:
        yeses = str(sent["messages"]).count(">yes</assistant>")
        return Reply(f'{{"percent": {20 + 30 * yeses}}}' if yeses else "cannot say")

    with serving(answer) as server:
        judge = {"base_url": server.url, "model": "m", "api_key_env": "", "retries": 0}
        config = settings({**CONFIG.model_dump(), "judge": judge, "gate": {"judge": "endpoint"}})
        blind = Exact(lambda tokens, start, stop: 0.5, spread=0.0)
        report = checked(Pair(blind, blind), episodes(200), config, samples=False)
    check = next(one for one in report.gate.checks if one.name == "G3")
    assert report.facts["prompted judge"] == "m"
    assert check.value > 0
    assert any("without an answer of the judge" in note for note in report.notes)


def test_an_endpoint_needs_an_address() -> None:
    with pytest.raises(ConfigError, match="judge.base_url"):
        checked(config=changed(judge="endpoint"), rows=episodes(4))


def test_returns_of_any_range_are_judged_on_their_own_scale() -> None:
    """The same conversations with outcomes −1 and 3 in place of 0 and 1, and Q = 4·Q − 1."""
    q = {**WORDS, "loss": "mse", "return_low": -1.0, "return_high": 3.0}
    config = settings({"q": q, "gate": {"num_bootstrap": 300}})
    wide = [
        replace(one, outcome=LoggedOutcome("sale", 4 * one.outcome.value - 1))
        for one in map(conversation, range(400)) if one.outcome is not None
    ]  # fmt: skip
    rows, _ = build_episodes(wide, CHAT, config, round=0, version="v1")
    stretched = Exact(lambda tokens, start, stop: 4 * chance(tokens[:stop]) - 1)
    report = checked(Pair(stretched, stretched), rows, config, samples=False)
    assert verdicts(report)["G1"] == "passes"
    assert report.diagram is not None and report.diagram.ece < 0.1
