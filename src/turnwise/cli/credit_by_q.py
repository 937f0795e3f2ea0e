"""Credit `q` of saved turns: Q − V of a Q-function that was fitted to logged conversations."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch

from turnwise.cli.assemble import assemble
from turnwise.cli.iterating import as_run
from turnwise.cli.saved_dialogues import check_tokens
from turnwise.cli.settings import load_settings
from turnwise.conversation import Trajectory
from turnwise.credit import qvalue_turn_rewards
from turnwise.errors import RunFolderError
from turnwise.iteration import IterateConfig
from turnwise.iteration.q_fit import load_cross_fit
from turnwise.records import Record
from turnwise.tokens import ChatFormat, ChatTokenizer
from turnwise.training.observer import Silent


def with_q_credit(records: Sequence[Record], folder: Path) -> list[Record]:
    """The records with credit `q` of every turn, return units; 0 where nothing was written.

    The mean of both Q-functions of the newest round: of a dialogue that was logged for the fit one
    of them has seen the outcome. A reply without its end token counts as the lowest return.
    folder: of `turnwise q fit` or `turnwise iterate`. Raises RunFolderError without a fit in it,
    TokensError for dialogues with tokens of another model than the fit's.
    """
    fits = sorted(folder.glob("round_*/fit"))
    if not fits:
        raise RunFolderError(
            f"expected a fitted Q-function in {folder}, found no round_*/fit; make one by "
            "`turnwise q fit`"
        )
    config = load_settings(IterateConfig, folder)
    backend = assemble(as_run(config), Silent()).backend
    chat = ChatFormat(cast(ChatTokenizer, backend.tokenizer))
    rows = [record.trajectory for record in records]
    for row in rows:
        check_tokens(row, chat)
    crossed = load_cross_fit(backend, chat, config.q, fits[-1])
    both = [q.values(rows) for q in (crossed.a, crossed.b)]
    q_BK, v_BK = (
        torch.stack(found).mean(dim=0)
        for found in ([one.q_BK for one in both], [one.v_BK for one in both])
    )
    credit_BK = qvalue_turn_rewards(q_BK, v_BK, _written(rows))
    return [
        replace(record, credit={**record.credit, "q": tuple(credit_K[: len(row.turns)].tolist())})
        for record, row, credit_K in zip(records, rows, credit_BK, strict=True)
    ]


def _written(rows: Sequence[Trajectory]) -> torch.Tensor:
    is_turn_BK = torch.zeros(len(rows), max(len(row.turns) for row in rows), dtype=torch.bool)
    for b, row in enumerate(rows):
        is_turn_BK[b, row.written_turns] = True
    return is_turn_BK
