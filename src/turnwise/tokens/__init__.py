"""Text to ids and back, who wrote which token in which turn, and the batch."""

from turnwise.tokens.batch import TurnBatch, microbatches, turn_batch
from turnwise.tokens.branches import Branch, Packed, pack, separate
from turnwise.tokens.chat import (
    ChatFormat,
    ChatTokenizer,
    Piece,
    TemplateReport,
    TokenisedConversation,
    mask_preview,
    tokenise,
)
from turnwise.tokens.tree import Tree

__all__ = [
    "Branch",
    "ChatFormat",
    "ChatTokenizer",
    "Packed",
    "Piece",
    "TemplateReport",
    "TokenisedConversation",
    "Tree",
    "TurnBatch",
    "mask_preview",
    "microbatches",
    "pack",
    "separate",
    "tokenise",
    "turn_batch",
]
