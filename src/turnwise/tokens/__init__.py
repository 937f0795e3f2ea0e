"""Text to ids and back, who wrote which token in which turn, and the batch."""

from turnwise.tokens.batch import TurnBatch, microbatches, turn_batch

__all__ = ["TurnBatch", "microbatches", "turn_batch"]
