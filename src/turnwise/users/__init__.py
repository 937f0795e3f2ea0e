"""Whoever answers the assistant: rule-based, replayed or human, and wrappers around them."""

from turnwise.users.chance import Key, happens, pick, shuffled, uniform
from turnwise.users.protocol import Reply, User

__all__ = ["Key", "Reply", "User", "happens", "pick", "shuffled", "uniform"]
