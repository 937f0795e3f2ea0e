"""Charts on credit itself: against the truth, turns against tokens, and what each method did.

A chapter stands in the report only where the run recorded something for it.
"""

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from turnwise.analysis.chapters import Chapter, kept, noisy
from turnwise.analysis.charts import Level, Line, line_chart
from turnwise.analysis.heat_map import Cell, heat_map
from turnwise.analysis.run_records import Row, number, series, suffixes

TRUTHS = {"gain": "exact information gain", "oracle": "exact turn values"}


def credit_chapters(train: Sequence[Row]) -> list[Chapter]:
    """What the step metrics say of the credit that turns got."""
    chapters = [
        Chapter(
            "credit-truth",
            "Credit against the truth",
            "The task can be computed exactly, so every method's credit of the step's turns is "
            "ranked against what each turn really did: 1 is the same order, 0 none, "
            "\N{MINUS SIGN}1 the reverse.",
            kept(_truth(train, name) for name in TRUTHS),
        ),
        Chapter(
            "credit-stability",
            "Credit of turns and of tokens",
            "A reward model whose update reorders the rewards of a dialogue pays for noise. Turns "
            "are sums over tokens, and should be the steadier of the two.",
            kept(_stability(train)),
        ),
        Chapter(
            "credit-information",
            "Credit by information gain",
            "A turn gains what its reply changed in the policy's next message. The gain weighs "
            "most where siblings end alike and the outcome teaches nothing.",
            kept(_information(train)),
        ),
        Chapter(
            "credit-critic",
            "Credit by a critic",
            "Explained variance 1 is a critic that foresees every return, 0 one that knows no more "
            "than their mean; below 0 it does harm.",
            kept(_critic(train)),
        ),
    ]
    return [chapter for chapter in chapters if chapter.charts]


def _truth(train: Sequence[Row], truth: str) -> Markup:
    """One colour a method: Spearman's correlation whole, Kendall's dashed."""
    statistics = {"spearman": "Spearman", "kendall": "Kendall"}
    found = [suffixes(train, f"truth/{statistic}_{truth}/") for statistic in statistics]
    lines = [
        Line(
            f"{method}, {title}",
            series(train, f"truth/{statistic}_{truth}/{method}"),
            is_noisy=True,
            colour=colour,
            is_dashed=statistic == "kendall",
        )
        for colour, method in enumerate(sorted({*found[0], *found[1]}))
        for statistic, title in statistics.items()
    ]
    return line_chart(
        f"Rank agreement with the {TRUTHS[truth]}",
        lines,
        note="Over all turns of a step; dashed is Kendall's \N{GREEK SMALL LETTER TAU}-b.",
        levels=[Level("no agreement", 0.0)],
        limits=(None, 1.0),
    )


def _stability(train: Sequence[Row]) -> Iterator[Markup]:
    yield noisy(
        "Does an update of the reward model keep the order?",
        train,
        {"turns": "prm/stability_turns", "tokens": "prm/stability_tokens"},
        note="Rank correlation of a dialogue's rewards before and after, mean over dialogues.",
        limits=(None, 1.0),
    )
    yield line_chart(
        "Is the best turn the truly best, the worst the worst?",
        [
            *_with_chance(train, "best", colour=0),
            *_with_chance(train, "worst", colour=1),
        ],
        note="Share of dialogues in which reward model and exact turn values name the same turn; "
        "dashed is chance.",
        limits=(0.0, 1.0),
    )


def _with_chance(train: Sequence[Row], which: str, *, colour: int) -> list[Line]:
    found, chance = (series(train, f"prm/{which}_turn_{word}") for word in ("agreement", "chance"))
    return [
        Line(f"{which} turn", found, is_noisy=True, colour=colour),
        Line(f"{which} by chance", chance, is_noisy=True, colour=colour, is_dashed=True),
    ]


def _information(train: Sequence[Row]) -> Iterator[Markup]:
    if not suffixes(train, "info/"):
        return  # groups without variance are no news of this method where it did not run
    yield noisy("Share of the advantage that is information", train, {"share": "info/share"})
    yield noisy("Mean gain (nats)", train, {"gain": "info/gain_mean"})
    yield noisy(
        "When does information count?",
        train,
        {
            "groups without variance": "group/zero_variance_frac",
            "gate, at most 0.5": "info/gate_mean",
            "groups scored": "info/groups_scored_frac",
        },
        limits=(0.0, 1.0),
    )
    yield noisy(
        "What the gain was made of (shares)",
        train,
        {"negative gains": "info/negative_frac", "copied from the reply": "info/copied_share"},
        note="A next message that only quotes the reply has a large gain and has learned nothing.",
        limits=(0.0, None),
    )
    yield heat_map(
        "Mean gain by step and turn (nats)",
        _gains(train),
        note="Blue above zero, orange below.",
        row="turn",
        counted="turns",
    )


def _gains(train: Sequence[Row]) -> list[Cell]:
    cells = []
    for k in (word for word in suffixes(train, "info/gain/") if word.isdigit()):
        for row in train:
            mean, count = number(row, f"info/gain/{k}"), number(row, f"info/gain_count/{k}")
            if mean is not None and count:
                cells.append(Cell(int(number(row, "step") or 0), int(k), mean, int(count)))
    return cells


def _critic(train: Sequence[Row]) -> Iterator[Markup]:
    yield noisy(
        "Explained variance of the returns",
        train,
        {"explained": "critic/explained_variance"},
        levels=[Level("knows the mean", 0.0)],
        limits=(None, 1.0),
    )
    yield noisy("Error of the critic", train, {"loss": "critic/loss"})
