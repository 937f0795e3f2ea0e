"""Logged conversations: read, checked, described and kept in one canonical form.

Readers turn each export format into records; the importer validates, pseudonymises, redacts and
writes them. No model here, and nothing that a run of turnwise wrote itself.
"""

from turnwise.logs.checking import check
from turnwise.logs.deletion import Kept, Training, note_training, trained_on
from turnwise.logs.importing import ImportResult, import_logs, read_findings
from turnwise.logs.intake import Findings
from turnwise.logs.options import ImportOptions, OutcomeTable, ReaderOptions
from turnwise.logs.privacy import read_key
from turnwise.logs.redaction import Redactor, presidio_redactor, regex_redactor
from turnwise.logs.refusal import Refusal

__all__ = [
    "Findings",
    "ImportOptions",
    "ImportResult",
    "Kept",
    "OutcomeTable",
    "ReaderOptions",
    "Redactor",
    "Refusal",
    "Training",
    "check",
    "import_logs",
    "note_training",
    "presidio_redactor",
    "read_findings",
    "read_key",
    "regex_redactor",
    "trained_on",
]
