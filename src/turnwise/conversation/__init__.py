"""What was said and what became of it: frozen, serialisable, without torch."""

from turnwise.conversation.messages import (
    Conversation,
    Message,
    Role,
    ToolCall,
    assistant_messages,
)
from turnwise.conversation.trajectory import Ending, Group, Outcome, Trajectory, Turn, Usage

__all__ = [
    "Conversation",
    "Ending",
    "Group",
    "Message",
    "Outcome",
    "Role",
    "ToolCall",
    "Trajectory",
    "Turn",
    "Usage",
    "assistant_messages",
]
