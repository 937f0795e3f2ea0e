"""`turnwise sft`: any model, any file of conversations, and logs."""

from collections.abc import Iterable
from pathlib import Path
from typing import cast

from turnwise.backends import AdapterSpec
from turnwise.backends.loading import load_backend
from turnwise.backends.local import LocalBackend
from turnwise.backends.tiny import tiny_model, tiny_tokenizer
from turnwise.cli.conversation_files import read_conversations
from turnwise.errors import RunFolderError
from turnwise.iteration.cloning import rows_to_clone
from turnwise.records import read_logged, replace_folder_atomically
from turnwise.tokens import ChatFormat, ChatTokenizer, TurnBatch, turn_batch
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
    """Teaches a model to imitate the assistant of a file or of logs; writes a model directory.

    model: a directory, a hub id, or "tiny": a new one of a million weights, for these texts alone.
    file: JSONL, one conversation a line, as OpenAI messages (a list, or under `messages`) or TRL's
    `prompt` and `completion`; or canonical logs, of which the policy's own words are imitated.
    Raises RecordError naming file and line for one that cannot be read, LogsError for a logged
    conversation whose consent forbids training.
    """
    if output.exists():
        raise RunFolderError(f"{output} exists; choose another output, nothing was touched")
    is_new = model == "tiny"
    backend = _tiny(_texts(file), seed) if is_new else load_backend(model)
    spec = AdapterSpec(full_weights=full_weights or is_new, seed=seed)
    learner = backend.create("policy", spec)
    chat = ChatFormat(cast(ChatTokenizer, backend.tokenizer))
    imitate(
        learner,
        _batch(file, chat, max_tokens),
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


def _are_logs(file: Path) -> bool:
    return file.is_dir() or file.suffix == ".parquet"


def _batch(file: Path, chat: ChatFormat, max_tokens: int) -> TurnBatch:
    if _are_logs(file):
        return turn_batch(list(rows_to_clone(read_logged(file), chat, max_tokens=max_tokens)))
    return supervised_batch(read_conversations(file), chat, max_tokens=max_tokens)


def _texts(file: Path) -> Iterable[str]:
    conversations = (
        [one.conversation for one in read_logged(file)]
        if _are_logs(file)
        else read_conversations(file)
    )
    return (message.content for conversation in conversations for message in conversation)


def _tiny(texts: Iterable[str], seed: int) -> LocalBackend:
    tokenizer = tiny_tokenizer(texts)
    return LocalBackend(tiny_model(tokenizer, seed=seed), tokenizer)
