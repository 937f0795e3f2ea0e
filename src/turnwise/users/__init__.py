"""Whoever answers the assistant: rule-based, replayed or human, and wrappers around them."""

from turnwise.users.protocol import Reply, User

__all__ = ["Reply", "User"]
