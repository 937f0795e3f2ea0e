"""`turnwise sft`: any model, any file of conversations."""

from pathlib import Path
from typing import cast

from turnwise.backends import AdapterSpec
from turnwise.backends.loading import load_backend
from turnwise.cli.conversation_files import read_conversations
from turnwise.errors import RunFolderError
from turnwise.records import replace_folder_atomically
from turnwise.tokens import ChatFormat, ChatTokenizer
from turnwise.training.observer import Observer, Silent
from turnwise.training.prm import PassLimits
from turnwise.training.supervised import imitate, supervised_batch


def sft(
    model: str,
    file: Path,
    *,
    output: Path,
    epochs: int = 1,
    learning_rate: float = 1e-5,
    batch_size: int = 16,
    max_tokens: int = 2048,
    full_weights: bool = False,
    seed: int = 0,
    observer: Observer | None = None,
) -> Path:
    """Teaches a model to imitate the assistant of a file; writes a model directory.

    file: JSONL, one conversation a line, as OpenAI messages (a list, or under `messages`) or TRL's
    `prompt` and `completion`. Raises RecordError naming file and line for one that cannot be read.
    """
    if output.exists():
        raise RunFolderError(f"{output} exists; choose another output, nothing was touched")
    conversations = read_conversations(file)
    backend = load_backend(model)
    learner = backend.create("policy", AdapterSpec(full_weights=full_weights, seed=seed))
    chat = ChatFormat(cast(ChatTokenizer, backend.tokenizer))
    imitate(
        learner,
        supervised_batch(conversations, chat, max_tokens=max_tokens),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        limits=PassLimits(),
        observer=observer or Silent(),
        phase="sft",
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    replace_folder_atomically(output, learner.export)
    return output
