"""Answers kept on disk, by what was asked."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from turnwise.errors import ConfigError


@dataclass(frozen=True)
class AnswerCache:
    """A folder of answers, one file each, named by a hash of the question.

    Several processes may share it. A file that cannot be read as an answer counts as absent: the
    question is asked again, and the answer replaces it.
    """

    folder: Path

    def get(self, key: str) -> str | None:
        """The answer that was kept; None where there is none."""
        try:
            answer = json.loads(self._path(key).read_text(encoding="utf-8"))["answer"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return answer if isinstance(answer, str) else None

    def put(self, key: str, answer: str) -> None:
        """Keeps an answer, whole or not at all. Raises ConfigError if the system refuses."""
        path = self._path(key)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps({"answer": answer}), encoding="utf-8")
            os.replace(beside, path)
        except OSError as error:
            raise ConfigError(
                f"could not keep an answer in the cache {self.folder}: "
                f"{error.strerror or error}; free space or choose another folder"
            ) from error

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"
