"""Which charts the report holds and what each of them answers."""

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from turnwise.analysis.chapters import Chapter, by_turn, kept, noisy
from turnwise.analysis.charts import Level, Line, line_chart, stacked_chart
from turnwise.analysis.credit_curves import credit_chapters
from turnwise.analysis.run_records import Row, RunRecords, series, suffixes
from turnwise.conversation import Ending


def progress(run: RunRecords) -> list[Chapter]:
    """What got better, and which turns were paid for it; charts without data are left out."""
    return [
        Chapter(
            "learning",
            "Learning curves",
            "Evaluations play the same held-out scenarios with the same seeds; the band is their "
            "95 % interval over scenarios, the dashed line the start. The number beside a name is "
            "its last value.",
            kept(_learning(run)),
            "No evaluation and no training step was recorded.",
        ),
        Chapter(
            "credit",
            "Where the credit went",
            "Turn 1 is the first assistant turn; each credit is in its own unit.",
            kept(_credit(run.train)),
            "No turn rewards or advantages were recorded.",
        ),
        *credit_chapters(run.train),
    ]


def checks(run: RunRecords) -> list[Chapter]:
    """Whether the run can be believed; charts without data are left out."""
    return [
        Chapter(
            "reward-model",
            "Can the reward model be believed?",
            "Measured on dialogues before their outcomes were learned from. Better than the base "
            "rate and an order accuracy well above 0.5 mean that turn credit carries information; "
            "trust 0 means it is not used yet.",
            kept(_reward_model(run.train)),
            "This run has no implicit reward model.",
        ),
        Chapter(
            "endings",
            "How dialogues end while training",
            "",
            kept([_endings(run.train)]),
            "No endings were recorded.",
        ),
        Chapter(
            "health",
            "Health of the policy",
            "A rising KL with falling entropy is a policy that collapses; where siblings "
            "all score the same, outcomes teach nothing.",
            kept(_health(run.train)),
            "No policy diagnostics were recorded.",
        ),
    ]


def _learning(run: RunRecords) -> Iterator[Markup]:
    for name, limits in (("success", (0.0, None)), ("score", (None, None))):
        yield line_chart(
            f"{name.capitalize()} on held-out scenarios",
            [_evaluated(run.evals, name)],
            levels=_start(run.evals, name),
            limits=limits,
        )
    yield noisy(
        "Training reward per dialogue",
        run.train,
        {"reward": "reward/mean", "success": "outcome/success"},
    )
    for name in ("turns", "tokens"):
        key = f"{name}/mean"
        lines = [
            Line("evaluation", series(run.evals, key)),
            Line("training", series(run.train, key), is_noisy=True),
        ]
        levels = _start(run.evals, name)
        yield line_chart(f"{name.capitalize()} per dialogue", lines, levels=levels)


def _credit(train: Sequence[Row]) -> Iterator[Markup]:
    yield by_turn(
        "Advantage size by turn",
        train,
        "turns/advantage_abs/",
        "Mean absolute advantage: where the policy is pushed.",
    )
    yield by_turn("Reward by turn", train, "turns/reward/", "Mean turn reward, bonus included.")
    methods = {name.split("/turn/")[0] for name in suffixes(train, "credit/") if "/turn/" in name}
    for method in sorted(methods):
        yield by_turn(f"Credit by turn: {method}", train, f"credit/{method}/turn/", "")


def _reward_model(train: Sequence[Row]) -> Iterator[Markup]:
    yield noisy(
        "Error of the predicted outcome (BCE, nats)",
        train,
        {
            "before learning the batch": "prm/bce_before",
            "after (flattering)": "prm/bce_after",
            "always the base rate": "prm/bce_base_rate",
        },
    )
    yield noisy(
        "Order accuracy and trust",
        train,
        {"order accuracy": "prm/order_accuracy", "trust": "prm/trust"},
        levels=[Level("chance", 0.5)],
        limits=(0.0, 1.0),
        note="Share of sibling pairs put in the right order; trust is 0 up to 0.55, 1 from 0.65.",
    )
    yield by_turn(
        "Drift of the turn rewards",
        train,
        "prm/turn_drift/",
        "Mean turn reward; credit that wanders to late turns is an overtrained reward model.",
    )
    yield noisy("Learned bias of the outcome logit", train, {"bias": "prm/bias"})


def _health(train: Sequence[Row]) -> Iterator[Markup]:
    yield noisy(
        "KL divergence (nats per token)",
        train,
        {"to the reference": "kl/reference", "rollout to training": "kl/rollout_vs_train"},
    )
    yield noisy("Entropy (nats per token)", train, {"entropy": "entropy"})
    yield noisy(
        "Groups without variance, clipped tokens (shares)",
        train,
        {"zero-variance groups": "group/zero_variance_frac", "clipped": "policy/clip_frac"},
        limits=(0.0, None),
    )
    yield noisy("Gradient norm before clipping", train, {"policy": "policy/grad_norm"})


def _endings(train: Sequence[Row]) -> Markup:
    found = suffixes(train, "stop/")
    known = [str(ending) for ending in Ending if str(ending) in found]
    names = [*known, *(name for name in found if name not in known)]
    lines = [Line(name.replace("_", " "), series(train, f"stop/{name}")) for name in names]
    return stacked_chart("Share of training dialogues by ending", lines)


def _evaluated(evals: Sequence[Row], name: str) -> Line:
    low, high = dict(series(evals, f"{name}/low")), dict(series(evals, f"{name}/high"))
    band = [(step, low[step], high[step]) for step in low if step in high]
    return Line(name, series(evals, f"{name}/mean"), band)


def _start(evals: Sequence[Row], name: str) -> list[Level]:
    points = series(evals[:1], f"{name}/mean")
    return [Level("start", points[0][1])] if points else []
