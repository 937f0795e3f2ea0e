"""The protocol that training speaks to, and the models that speak it.

Here: what a backend is. `backends.local` (torch and PEFT), `backends.loading` (from a directory or
hub id), `backends.tiny` (built on the spot) and `backends.fake` (a table, for tests) are imported
by their own names, so that naming a type does not load transformers.
"""

from turnwise.backends.protocol import (
    AdapterSpec,
    Backend,
    Capabilities,
    Comparison,
    Critic,
    Learner,
    Loss,
    Reader,
    Sample,
    Sampler,
    SampleRequest,
    Scorer,
    StepStats,
    Tokenizer,
)

__all__ = [
    "AdapterSpec",
    "Backend",
    "Capabilities",
    "Comparison",
    "Critic",
    "Learner",
    "Loss",
    "Reader",
    "Sample",
    "SampleRequest",
    "Sampler",
    "Scorer",
    "StepStats",
    "Tokenizer",
]
