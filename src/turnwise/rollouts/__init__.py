"""Playing dialogues: the order of speech, its limits, and the driver that lets people talk."""

from turnwise.rollouts.dialogue import AskPolicy, AskUser, Limits, Played, dialogue
from turnwise.rollouts.play import Failure, Plan, Stage, keyed_seed, play

__all__ = [
    "AskPolicy",
    "AskUser",
    "Failure",
    "Limits",
    "Plan",
    "Played",
    "Stage",
    "dialogue",
    "keyed_seed",
    "play",
]
