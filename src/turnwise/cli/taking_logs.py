"""What `turnwise logs check` and `import` do, and what they print when they are done."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal, cast, get_args

import typer

from turnwise.cli.plain import plain_table, print_parts, show_warnings
from turnwise.cli.progress import JsonLines, watching
from turnwise.cli.results import as_json_line
from turnwise.cli.settings import did_you_mean
from turnwise.errors import ConfigError
from turnwise.logs import (
    Findings,
    ImportOptions,
    OutcomeTable,
    ReaderOptions,
    Redactor,
    Refusal,
    check,
    import_logs,
    presidio_redactor,
    read_key,
    regex_redactor,
)
from turnwise.logs.options import LEAK_WORDS, Format
from turnwise.logs.usable import warnings_of
from turnwise.training.observer import Observer

_SHOWN = 10  # refusals in words; all of them are in the quarantine, or come with --json
# Fields that --map looks for in the outcomes' own table, where there is one.
_OF_OUTCOMES = {"outcome", "value", "name", "observed_at", "window_h", "source", "confidence"}
_EVERY = 1_000  # records between two signs of life


def import_options(
    *,
    format: str | None,
    encoding: str | None,
    max_line_mib: int,
    roles: Sequence[str],
    columns: Sequence[str],
    timezone: str | None,
    sort_by_time: bool,
    outcome_words: Sequence[str],
    outcome_name: str | None,
    return_range: tuple[float, float],
    outcomes: str | None,
    on: str,
    after_outcome: Literal["quarantine", "cut"],
    require_consent: bool,
    key_file: Path | None,
    key_env: str | None,
    redact: Literal["regex", "presidio"] | None,
    leak_words: Sequence[str],
    quarantine_raw: bool,
    max_bad: float,
) -> ImportOptions:
    """The flags of `turnwise logs import` as the import knows them.

    Raises ConfigError for one that cannot be understood, CapabilityError if Presidio is missing.
    """
    names = _pairs(columns, "--map")
    theirs = {field: names[field] for field in _OF_OUTCOMES & names.keys() if outcomes}
    reader = ReaderOptions(
        format=_format(format),
        encoding=encoding,
        max_line_bytes=max_line_mib * 2**20,
        role_map=_pairs(roles, "--role"),
        columns={field: column for field, column in names.items() if field not in theirs},
        timezone=timezone,
        sort_by_time=sort_by_time,
        outcome_map=numbers(outcome_words, "--outcome"),
        outcome_name=outcome_name,
        return_range=return_range,
        after_outcome=after_outcome,
    )
    return ImportOptions(
        reader=reader,
        outcomes=OutcomeTable(outcomes, on, theirs) if outcomes else None,
        require_consent=require_consent,
        key=read_key(key_file, key_env),
        redactor=_redactor(redact),
        quarantine_raw=quarantine_raw,
        max_bad=max_bad,
        leak_words=tuple(leak_words) or LEAK_WORDS,
    )


def _format(name: str | None) -> Format | None:
    known = get_args(Format)
    if name is not None and name not in known:
        hint = did_you_mean(name, known)
        raise ConfigError(f"expected --format to be one of {', '.join(known)}, found {name}{hint}")
    return cast(Format | None, name)


def _pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    pairs = {}
    for text in texts:
        left, mark, right = text.partition("=")
        if not (left and mark and right):
            raise ConfigError(f"expected {option} A=B, found {option} {text}")
        pairs[left] = right
    return pairs


def numbers(texts: Sequence[str], option: str) -> dict[str, float]:
    """Each word with its number. Raises ConfigError where the option does not say WORD=NUMBER."""
    return {word: _number(value, option) for word, value in _pairs(texts, option).items()}


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"expected {option} WORD=NUMBER, found {text} as number") from None


def _redactor(name: Literal["regex", "presidio"] | None) -> Redactor | None:
    if name is None:
        return None
    return regex_redactor() if name == "regex" else presidio_redactor()


def take(
    files: Sequence[Path], out: Path | None, options: ImportOptions, *, quiet: bool, json: bool
) -> Findings:
    """Imports the files to the folder, or checks them where there is none, and shows the findings.

    Raises as `import_logs` and `check`.
    """
    with watching(quiet=quiet, json=json) as observer:
        on_refusal = _refusals_shown(observer)
        observer.phase("read")
        on_record = _counted(observer)
        if out is None:
            findings = check(files, options, on_refusal, on_record)
        else:
            findings = import_logs(files, out, options, on_refusal, on_record).findings
    if json:
        row = {"event": "result", "folder": out and str(out), **asdict(findings)}
        typer.echo(
            as_json_line({**row, "bad_share": findings.bad_share, "is_clean": findings.is_clean})
        )
    else:
        _show_findings(findings, out)
    return findings


def _counted(observer: Observer) -> Callable[[], None]:
    """A sign of life every so many records."""
    seen = 0

    def on_record() -> None:
        nonlocal seen
        seen += 1
        if seen % _EVERY == 0:
            observer.advance("read", _EVERY)

    return on_record


def _refusals_shown(observer: Observer) -> Callable[[str, Refusal], None]:
    """All refusals as events for programs; for people the first few, in words, that are faults."""
    shown = 0

    def on_refusal(file: str, refusal: Refusal) -> None:
        nonlocal shown
        if isinstance(observer, JsonLines):
            facts = {name: value for name, value in vars(refusal).items() if name != "raw"}
            observer.event("refusal", **{**facts, "file": file})
        elif refusal.code != "consent_refused" and shown <= _SHOWN:
            told = refusal.message(file) if shown < _SHOWN else "more follow; --json tells them all"
            observer.message(told)
            shown += 1

    return on_refusal


def _show_findings(findings: Findings, out: Path | None) -> None:
    table = plain_table("records", "")
    table.add_row("read", f"{findings.read:,}")
    table.add_row("imported" if out else "can be imported", f"{findings.imported:,}")
    share = f"({findings.bad_share:.2%}; at most {findings.max_bad:.2%})"
    table.add_row("quarantined", f"{findings.quarantined:,} {share}")
    table.add_row("without consent", f"{findings.consent_refused:,}")
    print_parts(table)
    if findings.by_code:
        codes = plain_table("code", "records")
        for code, count in sorted(findings.by_code.items(), key=lambda item: -item[1]):
            codes.add_row(code, f"{count:,}")
        print_parts("", codes)
    show_warnings(warnings_of(findings.warnings, findings.imported))
    if findings.customers_dropped:
        typer.echo(
            f"\n{findings.customers_dropped:,} customers were not kept: expected a key for their "
            "pseudonyms, found none; name it with --key-file or --key-env"
        )
    for file in findings.unreadable:
        typer.echo(f"\n{file} cannot be read; export it again")
    if out:
        typer.echo(f"\nfolder  {out}")
