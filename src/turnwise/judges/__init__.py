"""Whoever says what each turn of a dialogue was worth, by a rule or by asking a language model.

A judge sees the conversation and nothing else. What its numbers become belongs to `credit`.
"""

from turnwise.judges.goal import GoalJudge, goal_question, read_chance
from turnwise.judges.llm import LLMJudge
from turnwise.judges.prompt import weight_question
from turnwise.judges.protocol import MAX_WEIGHT, TurnJudge, checked_weights
from turnwise.judges.reading import read_weights
from turnwise.judges.rules import RuleJudge

__all__ = [
    "MAX_WEIGHT",
    "GoalJudge",
    "LLMJudge",
    "RuleJudge",
    "TurnJudge",
    "checked_weights",
    "goal_question",
    "read_chance",
    "read_weights",
    "weight_question",
]
