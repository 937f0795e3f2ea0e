"""turnwise: credit for every turn of a conversation.

`train` and `evaluate` are the two doors most programs need; every room offers its functions by its
own name (`turnwise.credit`, `turnwise.tasks`, ...). Nothing heavy is imported before it is used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from turnwise.cli.jobs import evaluate, train

__version__ = "0.1.0"

__all__ = ["__version__", "evaluate", "train"]


def __getattr__(name: str) -> object:
    if name in ("evaluate", "train"):
        from turnwise.cli import jobs

        return getattr(jobs, name)
    raise AttributeError(f"module 'turnwise' has no attribute {name!r}")
