"""The data card: what a set of imported logs holds, what it can be used for, and what it lacks.

Counted by DuckDB over canonical Parquet; memory stays bounded, since what is needed of each
conversation and step lies in a temporary database on disk. No text is kept, and none is shown.
"""

import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from turnwise.errors import RecordError
from turnwise.logs.arms import OFFLINE, parquet_files
from turnwise.logs.cautions import Cautions
from turnwise.logs.importing import SUMMARY_NAME, read_findings
from turnwise.logs.intake import Findings
from turnwise.logs.options import LEAK_WORDS
from turnwise.logs.usable import Feature, features_of, warnings_of
from turnwise.records import read_logged

CARD_SCHEMA = "turnwise.card/1"

_Z = 1.959964  # two-sided 95 %
_GROUPS = 50  # of a table; there may be thousands of tenants
_MAX_TURNS = 12  # conversations that are longer share a row

# Tables that the card is counted from: a row for each conversation and for each assistant step.
_CONVERSATIONS = """
CREATE TABLE conversations AS
SELECT row_number() OVER () AS id,
       coalesce(customer_key, conversation_id) AS customer, customer_key IS NOT NULL AS is_known,
       origin.reader AS format, tenant, language, end_reason,
       outcome.name AS outcome_name, outcome.value AS value, outcome.window_h AS window_h,
       outcome.observed_at IS NOT NULL AS is_dated,
       consent.training AS training, redaction IS NOT NULL AS is_redacted,
       (epoch_us(coalesce(ended_at, list_max(list_transform(steps, s -> s.ts))))
        - epoch_us(coalesce(started_at, list_min(list_transform(steps, s -> s.ts))))) / 3.6e9
           AS hours,
       len(steps) AS steps,
       len(list_filter(steps, s -> s.role = 'assistant')) AS turns,
       list_sum(list_transform(steps, s -> s.reward)) AS reward,
       list_sum(list_transform(steps, s -> length(s.content))) AS characters,
       cardinality(violations) > 0
           OR list_bool_or(list_transform(steps, s -> cardinality(s.violations) > 0)) AS is_priced,
       list_transform(list_filter(steps, s -> s.role = 'assistant'), s -> {
           version: s.policy.version, author: s.author, disposition: s.disposition,
           temperature: s.policy.temperature, top_p: s.policy.top_p, finish: s.policy.finish,
           propensity: s.explore.propensity, is_dated: s.ts IS NOT NULL,
           has_tokens: s.token_ids IS NOT NULL, characters: length(s.content)}) AS said
FROM read_parquet(?, hive_partitioning = false)
"""
_DECISIONS = """
CREATE TABLE decisions AS
SELECT id, customer, value, s.* FROM (SELECT id, customer, value, unnest(said) AS s
                                      FROM conversations)
"""
_TOTALS = """
SELECT count(*), sum(steps), sum(turns), count(DISTINCT customer), avg((value IS NULL)::INT),
       corr((value IS NULL)::INT, turns) FROM conversations
"""
_LENGTHS = {  # expression and table
    "turns of a conversation": ("turns",),
    "steps of a conversation": ("steps",),
    "characters of a conversation": ("characters",),
    "characters of a reply": ("characters", "decisions"),
    "hours from first to last": ("hours",),
}


@dataclass(frozen=True)
class Rate:
    """Mean outcome with a 95 % interval that keeps the conversations of a customer together.

    Outcomes of 0 and 1 have Wilson's interval at the effective sample size, others the normal one.
    Fewer than two customers have none: low and high are NaN.
    """

    mean: float
    low: float
    high: float
    known: int  # conversations with an outcome


@dataclass(frozen=True)
class Group:
    """One row of a table: conversations that share a value."""

    name: str | None  # None: not recorded
    conversations: int
    steps: int  # all steps; for version, author and disposition the assistant's of that value
    customers: int
    outcome: Rate


@dataclass(frozen=True)
class Spread:
    """How a number is spread; NaN where it is known of nothing."""

    known: int
    low: float
    p5: float
    median: float
    mean: float
    p95: float
    high: float


@dataclass(frozen=True)
class DataCard:
    """What 6.4 of the method page asks for; `asdict` of it is the JSON form."""

    schema: str
    sources: Sequence[str]  # file names
    conversations: int
    steps: int
    decisions: int
    customers: int
    outcome_names: Sequence[str]
    outcome: Rate
    tables: dict[str, list[Group]]  # "format", "policy version", ... -> rows, largest first
    by_turns: list[Group]
    end_reasons: dict[str, int]
    censored_share: float  # of the conversations: without an outcome
    censored_by_length: float  # its correlation with the number of turns; NaN if one is constant
    window_h: Spread
    returns: Spread  # rewards and outcome, undiscounted, of conversations with an outcome
    lengths: dict[str, Spread]
    imports: list[Findings]  # of the folders that an import wrote
    features: list[Feature]
    warnings: list[str]


def data_card(*paths: Path) -> DataCard:
    """The card of folders that an import wrote, or of canonical Parquet files.

    Raises RecordError for a file that is missing, cut, or of another schema version.
    """
    files = parquet_files(paths)
    with _counted(files) as base:
        conversations, steps, decisions, customers, share, correlation = _row(base, _TOTALS)
        if not conversations:
            raise RecordError(f"{files[0]} holds no conversation; import logs that do")
        warned = _cautions(paths, correlation)
        return DataCard(
            schema=CARD_SCHEMA,
            sources=[file.name for file in files],
            conversations=int(conversations),
            steps=int(steps),
            decisions=int(decisions),
            customers=int(customers),
            outcome_names=_texts(base, "outcome_name"),
            outcome=_groups(base, "'all'")[0].outcome,
            tables={name: _groups(base, name) for name in ("format", "tenant", "language")}
            | {
                "policy version": _groups(base, "version", "decisions", "1"),
                "author": _groups(base, "author", "decisions", "1"),
                "disposition": _groups(base, "disposition", "decisions", "1"),
            },
            by_turns=sorted(_groups(base, f"least(turns, {_MAX_TURNS + 1})"), key=_turns_of),
            end_reasons={str(g.name): g.conversations for g in _groups(base, "end_reason")},
            censored_share=share,
            censored_by_length=correlation,
            window_h=_spread(base, "window_h"),
            returns=_spread(base, "reward + value"),
            lengths={name: _spread(base, *value) for name, value in _LENGTHS.items()},
            imports=[read_findings(path) for path in paths if (path / SUMMARY_NAME).is_file()],
            features=features_of(base),
            warnings=warnings_of(warned, int(conversations)),
        )


@contextmanager
def _counted(files: Sequence[Path]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database with the two tables; it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="turnwise-card-") as folder:
        base = duckdb.connect(
            Path(folder) / "card.duckdb",
            config={**OFFLINE, "temp_directory": folder, "preserve_insertion_order": False},
        )
        try:
            base.execute(_CONVERSATIONS, [[str(file) for file in files]])
            base.execute(_DECISIONS)
            yield base
        finally:
            base.close()


def _groups(
    base: duckdb.DuckDBPyConnection, key: str, table: str = "conversations", steps: str = "steps"
) -> list[Group]:
    """Largest first. The inner rows are customers, the unit of the intervals.

    A conversation with several values, as of versions, counts once in the row of each.
    """
    rows = base.execute(
        f"""
        SELECT name, sum(n), sum(steps), count(*), sum(k), count(*) FILTER (k > 0), sum(s),
               sum(s * s), sum(s * k), sum(k * k), bool_and(is_binary)
        FROM (SELECT name, customer, count(*) AS n, sum(steps) AS steps, count(value) AS k,
                     coalesce(sum(value), 0) AS s,
                     coalesce(bool_and(value IN (0, 1)), true) AS is_binary
              FROM (SELECT {key}::VARCHAR AS name, id, any_value(customer) AS customer,
                           any_value(value) AS value, sum({steps}) AS steps
                    FROM {table} GROUP BY 1, 2) GROUP BY 1, 2)
        GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {_GROUPS}"""
    ).fetchall()
    return [
        Group(
            row[0],
            int(row[1]),
            int(row[2]),
            int(row[3]),
            rate_of(*map(float, row[4:10]), is_binary=row[10]),
        )
        for row in rows
    ]


def rate_of(
    known: float,
    customers: float,
    total: float,
    square: float,
    cross: float,
    sizes: float,
    *,
    is_binary: bool,
) -> Rate:
    """The rate and its interval from sums over the customers c with a known outcome.

        p = Σ s_c / N,   var = C/(C−1) · Σ (s_c − p·n_c)² / N²,   n = min(N, p(1−p) / var)

    known: N = Σ n_c. customers: C. total: Σ s_c. square: Σ s_c². cross: Σ s_c·n_c. sizes: Σ n_c².
    is_binary: Wilson's interval at n (at C where p is 0 or 1); otherwise p ± 1.96·√var.
    Source: Wilson 1927; Kish 1965, section 5.4 (effective sample size).
    """
    if not known:
        return Rate(math.nan, math.nan, math.nan, 0)
    p = total / known
    if customers < 2:
        return Rate(p, math.nan, math.nan, int(known))
    residual = max(square - 2 * p * cross + p**2 * sizes, 0.0)
    variance = customers / (customers - 1) * residual / known**2
    if not is_binary:
        half = _Z * math.sqrt(variance)
        return Rate(p, p - half, p + half, int(known))
    n = customers if p in (0.0, 1.0) else min(known, p * (1 - p) / max(variance, 1e-12))
    middle, scale = p + _Z**2 / (2 * n), 1 + _Z**2 / n
    half = _Z * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    return Rate(p, max((middle - half) / scale, 0.0), min((middle + half) / scale, 1.0), int(known))


def _turns_of(group: Group) -> int:
    return int(group.name or 0)


def _spread(base: duckdb.DuckDBPyConnection, value: str, table: str = "conversations") -> Spread:
    known, *numbers = _row(
        base,
        f"""SELECT count(x), min(x), quantile_cont(x, 0.05), median(x), avg(x),
                   quantile_cont(x, 0.95), max(x)
            FROM (SELECT ({value})::DOUBLE AS x FROM {table})""",
    )
    return Spread(int(known), *numbers)


def _row(base: duckdb.DuckDBPyConnection, query: str) -> list[float]:
    """One row of numbers; NaN for what is not known."""
    row = base.execute(query).fetchone()
    assert row is not None
    return [math.nan if value is None else float(value) for value in row]


def _texts(base: duckdb.DuckDBPyConnection, column: str) -> list[str]:
    rows = base.execute(f"SELECT DISTINCT {column} FROM conversations ORDER BY 1").fetchall()
    return [str(row[0]) for row in rows if row[0] is not None]


def _cautions(paths: Sequence[Path], correlation: float) -> dict[str, float]:
    """What the imports counted; files that no import wrote are gone through."""
    counts = Counter[str]()
    for path in paths:
        if (path / SUMMARY_NAME).is_file():
            counts.update(read_findings(path).warnings)
            continue
        cautions = Cautions(LEAK_WORDS)
        for conversation in read_logged(path):
            cautions.see(conversation)
        counts.update(cautions.counts)
    return {**counts, "censored_length_correlation": correlation}
