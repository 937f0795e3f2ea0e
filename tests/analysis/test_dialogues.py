"""The colours of a dialogue are its credits, and the choice of dialogues hides no failure."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.analysis.fake_run import dialogue
from turnwise.analysis.dialogues import (
    card,
    choose,
    colour_step,
    group_facts,
    limits_of,
    pair_card,
    pair_up,
    scales,
    siblings,
)
from turnwise.conversation import Ending, Message, Outcome, ToolCall, Trajectory, Turn
from turnwise.records import Record


def a_record(
    score: float | None = 1.0,
    credit: tuple[float, ...] = (0.5, -1.0),
    scenario: str = "s",
    group: str = "g",
    advantage: tuple[float, ...] = (),
) -> Record:
    trajectory = Trajectory(
        scenario_id=scenario,
        group_id=group,
        seed=1,
        conversation=(
            Message("system", "be kind"),
            Message("assistant", "I am the opening"),
            Message("user", "hello"),
            Message("assistant", "which?"),
            Message("user", "this"),
            Message("assistant", "", tool_calls=(ToolCall("1", "book", '{"day": 1}'),)),
        ),
        token_ids=tuple(range(12)),
        turns=(Turn(4, 6, (-1.0, -1.0), "stop"), Turn(8, 9, (-1.0,), "stop")),
        outcome=Outcome(score),
        ending=Ending.TASK_DONE,
    )
    return Record(trajectory, 60, "eval", {"itpo": credit} if credit else {}, advantage)


def test_colours_by_hand() -> None:
    assert [colour_step(v, 2.0) for v in (-9.0, -2.0, -0.8, 0.0, 0.1, 1.2, 2.0)] == [
        0, 0, 3, 5, 5, 8, 10,
    ]  # fmt: skip


@given(a=st.floats(-1e9, 1e9), b=st.floats(-1e9, 1e9), limit=st.floats(1e-6, 1e6))
@settings(deadline=None)
def test_more_credit_is_never_a_lower_colour(a: float, b: float, limit: float) -> None:
    assert colour_step(min(a, b), limit) <= colour_step(max(a, b), limit)
    assert colour_step(-a, limit) == 10 - colour_step(a, limit)


def test_turns_are_the_policys_own_messages() -> None:
    lines = card("t", a_record(), {"itpo": 1.0}).lines
    assert [line.turn for line in lines] == [None, None, None, 1, None, 2]
    assert lines[3].marks["itpo"].text == "+0.50"
    assert lines[5].marks["itpo"].colour == "c0"
    assert lines[5].text == '[calls book({"day": 1})]'
    assert not lines[1].marks


def test_advantage_is_one_more_switch() -> None:
    limits = limits_of([a_record(advantage=(2.0, -2.0))])
    assert limits == {"itpo": pytest.approx(0.975), "advantage": 2.0}
    # 95 % of 0.5 and 1: 0.5 + 0.95 · 0.5
    assert [(s.method, s.low, s.high) for s in scales({"advantage": 2.0})] == [
        ("advantage", "\N{MINUS SIGN}2", "+2")
    ]


def test_a_credit_that_is_zero_everywhere_has_a_scale() -> None:
    assert limits_of([a_record(credit=(0.0, 0.0))]) == {"itpo": 1.0}


def test_a_credit_that_is_no_number_has_no_colour() -> None:
    marks = card("t", a_record(credit=(float("nan"), 1.0)), {"itpo": 1.0}).lines[3].marks
    assert (marks["itpo"].text, marks["itpo"].colour) == ("unknown", "c5")


def test_pairs_are_sorted_by_who_solved_them() -> None:
    before = [a_record(s, scenario=n) for n, s in zip("abcdx", (0.0, 1.0, 1.0, 0.2, None))]  # noqa: B905  # five of each
    after = [a_record(s, scenario=n) for n, s in zip("abcdxy", (1.0, 0.0, 1.0, 0.3, 1.0, 1.0))]  # noqa: B905  # six of each
    pairs = pair_up(before, after)
    found = {kind: [p[0].trajectory.scenario_id for p in some] for kind, some in pairs.items()}
    assert found == {
        (False, True): ["a"],
        (True, False): ["b"],
        (True, True): ["c"],
        (False, False): ["d"],
    }
    kept = choose(pairs, {(False, True): 1, (True, False): 1})
    assert [pair_card(pair, {}).kind for pair in kept] == [
        "solved only after training",
        "solved only before training",
    ]


def test_the_biggest_change_comes_first() -> None:
    before = [a_record(0.4, scenario="a"), a_record(0.0, scenario="b")]
    after = [a_record(1.0, scenario="a"), a_record(1.0, scenario="b")]
    pairs = pair_up(before, after)[False, True]
    assert [pair[0].trajectory.scenario_id for pair in pairs] == ["b", "a"]


def test_siblings_are_of_the_group_that_differs_most() -> None:
    calm = [a_record(0.5, group="calm") for _ in range(4)]
    mixed = [a_record(s, group="mixed") for s in (0.2, 1.0, 0.0, 0.9, 0.5)]
    lost = [a_record(None, group="lost")]
    found = siblings([*calm, *mixed, *lost], 3)
    assert [r.trajectory.outcome.score for r in found] == [1.0, 0.9, 0.0]
    assert len(siblings(mixed, 9)) == 5
    assert siblings(lost, 3) == []


def test_a_turn_says_what_was_measured_of_it_in_words() -> None:
    record = replace(
        a_record(),
        measures={
            "infopo/gain": (0.25, None),
            "infopo/logp_factual": (-3.0, None),
            "truth/gain": (float("nan"), 0.0),
            "own_thing/size": (2.0, None),
        },
        notes={"infopo/refusal": ("", "last turn"), "infopo/fill": ("compact", "")},
    )
    lines = card("t", record, {}).lines
    assert lines[3].measures == "gain 0.250 · own thing: size 2 · fill compact"
    assert lines[5].measures == "true gain 0 · no gain: last turn"
    assert [line.measures for line in lines if line.turn is None] == [""] * 4
    assert card("t", a_record(), {}).lines[3].measures == ""


def test_a_group_says_what_was_measured_of_it() -> None:
    record = replace(a_record(), group_measures={"std_outcome": 0.5, "gate": 0.25})
    assert group_facts(record) == "std outcome 0.500 · gate 0.250"


def test_a_made_up_dialogue_can_be_shown() -> None:
    record = dialogue(np.random.default_rng(0), 3, 0, True, "hello")
    shown = card("t", record, limits_of([record]))
    assert shown.facts.startswith("score 1 · success 1 · 4 turns · 24 tokens written · ended by")
