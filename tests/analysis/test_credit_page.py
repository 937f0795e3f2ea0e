"""Several credits of the same turns become numbers, and a page that loads nothing."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from tests.analysis.fake_run import dialogue, measured_turns
from turnwise.analysis import CreditStudy, TurnMean, credit_study, render_credit_page
from turnwise.analysis.credit_page import verdict
from turnwise.analysis.credit_study import by_dispute
from turnwise.records import Record

ATTACK = "<script>alert('x')</script><img src=http://example.org onerror=alert(1)>"
Credits = Mapping[str, tuple[float, ...]]


def record(credit: Credits, gain: tuple[float | None, ...] = (), number: int = 0) -> Record:
    """A dialogue of three turns or of one."""
    is_long = len(next(iter(credit.values()))) > 1
    rng = np.random.default_rng(0)
    made = replace(dialogue(rng, number, 1, True, "hello"), credit={}, advantage=())
    if not is_long:
        keep = made.trajectory
        made = replace(
            made,
            trajectory=replace(
                keep,
                conversation=(keep.conversation[0], keep.conversation[-1]),
                turns=keep.turns[-1:],
            ),
        )
    return replace(made, credit=credit, measures={"infopo/gain": gain} if gain else {})


def study_of(*credits: Credits) -> CreditStudy:
    records = [record(credit, number=i) for i, credit in enumerate(credits)]
    return credit_study(records, list(credits[0]))


def test_a_study_by_hand() -> None:
    study = study_of(
        {"itpo": (0.1, 0.2, 0.3, 0.4), "value": (1.0, 2.0, 4.0, 3.0)},
        {"itpo": (0.4, 0.3, 0.2, 0.1), "value": (1.0, 2.0, 3.0, 4.0)},
        {"itpo": (0.5,), "value": (0.0,)},
    )
    assert (study.num_dialogues, study.num_turns) == (3, 9)
    found = study.agreement["itpo", "value"]
    # Σd² = 2: ρ = 1 − 6·2/(4·15) = .8, and the reverse order −1; one turn has no order
    assert found.within == pytest.approx((0.8 - 1) / 2)
    assert found.num_dialogues == 2
    assert study.agreement["value", "itpo"] == found
    assert study.by_turn["itpo"][0] == TurnMean((0.1 + 0.4 + 0.5) / 3, 3)
    assert study.by_turn["value"][3] == TurnMean(3.5, 2)


def test_a_turn_without_a_gain_has_no_rank_and_no_part_in_a_mean() -> None:
    of_turns = {"infopo": (0.5, 0.1, 0.7, 0.0), "itpo": (0.3, 0.2, 0.4, 0.9)}
    all_told = credit_study([record(of_turns)], ["infopo", "itpo"])
    told = credit_study([record(of_turns, (0.5, 0.1, 0.7, None))], ["infopo", "itpo"])
    # ranks of four turns: 3 2 4 1 and 2 1 3 4, Σd² = 12; of three they are the same
    assert all_told.agreement["infopo", "itpo"].within == pytest.approx(1 - 6 * 12 / (4 * 15))
    assert told.agreement["infopo", "itpo"].within == pytest.approx(1.0)
    assert told.by_turn["infopo"][3] is None
    assert told.by_turn["itpo"][3] == TurnMean(0.9, 1)


def test_the_truth_is_compared_where_every_record_knows_it() -> None:
    credit = {"itpo": (0.1, 0.2, 0.3, 0.4)}
    known = replace(record(credit), measures={"truth/oracle": (1.0, 2.0, 3.0, 4.0)})
    study = credit_study([known, known], ["itpo"])
    assert study.truth["exact credit"]["itpo"].within == pytest.approx(1.0)
    assert list(study.truth) == ["exact credit"]
    assert credit_study([known, record(credit)], ["itpo"]).truth == {}


def test_dialogues_are_ranked_by_dispute() -> None:
    up, down = (0.1, 0.2, 0.3, 0.4), (0.4, 0.3, 0.2, 0.1)
    study = study_of(
        {"itpo": up, "value": up},
        {"itpo": up, "value": (0.2, 0.2, 0.2, 0.2)},
        {"itpo": up, "value": down},
        {"itpo": (0.5,), "value": (0.1,)},
    )
    assert by_dispute(study) == [2, 0]


def test_a_study_is_plain_numbers() -> None:
    study = study_of({"itpo": (0.1, 0.2, 0.3, 0.4), "value": (4.0, 3.0, 2.0, 1.0)})
    plain = json.loads(json.dumps(study.as_dict()))
    assert plain["agreement"]["itpo"] == {
        "value": {
            "within_dialogues": pytest.approx(-1.0),
            "num_dialogues": 1,
            "overall": pytest.approx(-1.0),
        }
    }
    assert plain["mean_credit_by_turn"]["value"][1] == {"mean": 3.0, "count": 1}
    assert plain["truth"] == {}


def test_the_first_sentence_names_what_is_closest() -> None:
    up, down = (0.1, 0.2, 0.3, 0.4), (0.4, 0.3, 0.2, 0.1)
    two = {"itpo": up, "value": down, "oracle": up}
    assert "The two that agree most: itpo and oracle (1.00)" in verdict(study_of(two))
    exact = replace(record(two), measures={"truth/oracle": up})
    against = verdict(credit_study([exact], list(two)))
    assert against == "1 dialogues with 4 turns. Closest to the exact credit: itpo (1.00)."
    reverse = replace(record({"itpo": down, "value": down}), measures={"truth/oracle": up})
    against = verdict(credit_study([reverse], ["itpo", "value"]))
    assert against.endswith("No method follows the exact credit: itpo comes nearest with −1.00.")
    flat = study_of({"itpo": (0.5,), "value": (0.5,)})
    assert "there is no agreement" in verdict(flat)
    assert "compare itpo with" in verdict(study_of({"itpo": up}))


# The page


def fake_records(number: int = 12, opening: str = "please book a table") -> list[Record]:
    """Dialogues with credit by itpo, itpo-norm, infopo and oracle, and the exact gain."""
    rng = np.random.default_rng(3)
    out = []
    for i in range(number):
        one = measured_turns(dialogue(rng, i, 5, i % 3 > 0, opening))
        gains = one.measures["infopo/gain"]
        told = tuple(0.0 if gain is None else gain for gain in gains)
        measures = {**one.measures, "truth/oracle": one.credit["oracle"]}
        out.append(replace(one, credit={**one.credit, "infopo": told}, measures=measures))
    return out


METHODS = ["itpo", "itpo-norm", "infopo", "oracle"]


def page_of(records: list[Record], methods: list[str], **facts: object) -> str:
    given = {"source": "runs/one", "model": "runs/one", "left_out": {}} | facts
    study = credit_study(records, methods)
    return render_credit_page(records, study, **given)  # type: ignore[arg-type]  # as they are


def test_the_page_shows_every_pair_every_method_and_both_kinds_of_dialogues() -> None:
    records = fake_records()
    page, study = page_of(records, METHODS), credit_study(records, METHODS)
    rows = re.findall(r"<tr><th scope=\"row\">.*?</tr>", page)
    assert len(rows) == len(METHODS)
    found = study.agreement["itpo", "infopo"]
    assert f"itpo with infopo: {found.within:.2f} within" in page.replace("\N{MINUS SIGN}", "-")
    assert "itpo with the exact credit" in page
    assert "itpo with the exact gain" in page
    assert page.count('<figure class="chart">') == len(METHODS)
    assert page.count("<article") == 8
    assert "Where the methods disagree most" in page and "Where they agree most" in page
    turns = sum(len(one) for one in re.findall(r'<dl class="marks">(.*?)</dl>', page))
    assert turns > 0
    for marks in re.findall(r'<dl class="marks">(.*?)</dl>', page):
        assert re.findall(r"<dt>(.*?)</dt>", marks) == METHODS
        assert len(re.findall(r'<div class="c\d+">', marks)) == len(METHODS)


def test_a_turn_without_a_gain_is_not_shown_as_zero() -> None:
    page = page_of(fake_records(), METHODS)
    assert page.count("<dt>infopo</dt><dd>unknown</dd>") > 0
    assert "no gain: last turn" in page


def test_agreement_has_the_colour_of_its_number() -> None:
    up, down = (0.1, 0.2, 0.3, 0.4), (0.4, 0.3, 0.2, 0.1)
    credit = {"itpo": up, "value": up, "oracle": down, "uniform": (0.25,) * 4}
    page = page_of([record(credit)], list(credit))
    [first, *_] = re.findall(r"<tr><th scope=\"row\">itpo</th>(.*?)</tr>", page)
    fields = re.findall(r'<td class="(c\d+)" title="[^"]*">(\S+) <small>(.*?)</small>', first)
    minus = "\N{MINUS SIGN}"
    assert fields == [
        ("c10", "1", ""),
        ("c10", "1.00", "1 · 1.00"),
        ("c0", f"{minus}1.00", f"1 · {minus}1.00"),
        ("c5", "–", "0 · –"),
    ]


def test_without_two_methods_there_are_dialogues_all_the_same() -> None:
    page = page_of(fake_records(6), ["itpo"])
    assert "<h2>Dialogues</h2>" in page
    assert page.count("<article") == 4
    assert "disagree" not in page


def test_everything_from_records_is_escaped_and_nothing_is_loaded() -> None:
    page = page_of(
        fake_records(opening=ATTACK), METHODS, source=ATTACK, model=ATTACK, left_out={ATTACK: 2}
    )
    assert "<img" not in page and "<script>alert" not in page
    assert page.count("<script>") == 1
    assert "default-src &#39;none&#39;" in page
    assert not re.search(r"(?:src|href|action)=", re.sub(r"&lt;.*?&gt;", "", page))
    assert "2 dialogues: " in page


def test_a_method_without_a_number_has_no_picture_and_no_mark() -> None:
    of_one = {"itpo": (math.nan,), "value": (0.5,)}
    page = page_of([record(of_one)], ["itpo", "value"])
    assert page.count('<figure class="chart">') == 1
    assert re.findall(r"<dt>(.*?)</dt>", page) == ["value"]
