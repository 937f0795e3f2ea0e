"""turnwise: credit for every turn of a conversation."""

__version__ = "0.1.0"
