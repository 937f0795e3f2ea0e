"""Reading a run's records and showing them: tables, charts, dialogues, one HTML file a question."""

from turnwise.analysis.card_page import render_card
from turnwise.analysis.credit_page import render_credit_page
from turnwise.analysis.credit_study import CreditStudy, TurnMean, credit_study
from turnwise.analysis.iteration_page import write_iteration_page
from turnwise.analysis.q_page import GateReport, render_q_page
from turnwise.analysis.report import write_report

__all__ = [
    "CreditStudy",
    "GateReport",
    "TurnMean",
    "credit_study",
    "render_card",
    "render_credit_page",
    "render_q_page",
    "write_iteration_page",
    "write_report",
]
