"""Passes without gradient over rows of any kind, and the count of them."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from turnwise.backends.causal import CausalModel, attention_of
from turnwise.backends.logits import check_finite, check_temperature, compared, divergence_of
from turnwise.backends.protocol import Comparison
from turnwise.backends.ways import Reading, TreeReader
from turnwise.tokens import TurnBatch, microbatches
from turnwise.tokens.tree import Places

Activate = Callable[[], CausalModel]  # the model, ready to speak


class Scoring:
    """Scores with any model of one architecture, in passes over rows of similar lengths."""

    def __init__(self, trees: TreeReader, *, max_rows: int, max_tokens: int) -> None:
        """max_rows, max_tokens: of one pass (rows × longest row)."""
        self.trees = trees
        self.max_rows, self.max_tokens = max_rows, max_tokens
        self.passes: Counter[tuple[str, str]] = Counter()  # dialogues by (role, "score" | "train")
        self.ways: Counter[str] = Counter()  # packed rows by the way they were read

    def reading(self, role: str, batch: TurnBatch, *, is_training: bool = False) -> Reading:
        """How the batch is to be read; its rows are counted."""
        self.passes[role, "train" if is_training else "score"] += len(batch.length_B)
        reading = self.trees.reading(batch, is_training=is_training)
        if reading.way is not None:
            self.ways[reading.way] += len(batch.length_B)
        return reading

    def logp(self, causal: CausalModel, role: str, batch: TurnBatch, temperature: float) -> Tensor:
        """logp_BT on the batch's device."""
        reading = self.reading(role, batch)
        out_RS = torch.zeros(reading.batch.token_BT.shape, dtype=torch.float32)
        with torch.inference_mode(), attention_of(causal.model, reading.attention):
            for rows in self._split(reading.batch):
                part = reading.batch.rows(rows)
                scores = causal.scores(part, temperature=temperature, read=reading.read)
                out_RS[rows, : scores.logp_BT.shape[1]] = scores.logp_BT.float().cpu()
        out_BT = reading.home(out_RS)
        check_finite(out_BT, role, batch)
        return out_BT.to(batch.token_BT.device)

    def compare(
        self,
        activate: tuple[Activate, Activate],
        roles: tuple[str, str],
        batch: TurnBatch,
        temperature: float,
    ) -> Comparison:
        """Both models on the written tokens, on the batch's device.

        activate: makes a model ready to speak; the two may share weights.
        Raises LogProbError for a number that is not finite.
        """
        check_temperature(temperature)
        reading = self.reading(roles[0], batch)
        self.passes[roles[1], "score"] += len(batch.length_B)
        out = [torch.zeros(reading.batch.token_BT.shape) for _ in range(4)]
        with torch.inference_mode():
            for rows in self._split(reading.batch):
                part = reading.batch.rows(rows)
                row_N, column_N, before_N = part.predictions()
                models, states = [], []
                for ready in activate:
                    models.append(ready())
                    with attention_of(models[-1].model, reading.attention):
                        states.append(_hidden(reading, models[-1], part)[row_N, before_N])
                target_N = part.token_BT[row_N, column_N].to(states[0].device)
                found = _compared_in_chunks(models, states, target_N, temperature)
                for whole, part_N in zip(out, found, strict=True):
                    whole[rows[row_N.cpu()], column_N.cpu()] = part_N
        home = [reading.home(whole) for whole in out]
        for whole, role in zip(home, (*roles, *roles), strict=True):
            check_finite(whole, role, batch)
        return Comparison(*(whole.to(batch.token_BT.device) for whole in home))

    def divergence(
        self,
        causal: CausalModel,
        role: str,
        batch: TurnBatch,
        places: tuple[Places, Places],
        temperature: float,
    ) -> Tensor:
        """KL_N of the next-token distributions after the first places from those after the others.

        Raises LogProbError for one that is not finite.
        """
        check_temperature(temperature)
        reading = self.reading(role, batch)
        now = tuple(reading.places(place) for place in places)
        with torch.inference_mode(), attention_of(causal.model, reading.attention):
            p_NW, q_NW = self._states(causal, reading, now)
            size = causal.chunk_size(p_NW)
            parts = [
                divergence_of(causal.logits(p), causal.logits(q), temperature)
                for p, q in zip(p_NW.split(size), q_NW.split(size), strict=True)
            ]
        out_N = torch.cat(parts).float()
        check_finite(out_N[None], role)
        return out_N.to(batch.token_BT.device)

    def states(self, causal: CausalModel, role: str, batch: TurnBatch) -> Tensor:
        """state_BTW after each token of packed rows, on the model's device; 0 on padding."""
        reading = self.reading(role, replace(batch, turn_of_token_BT=_unscored(batch)))
        column_T = torch.arange(batch.token_BT.shape[1])
        row_N, column_N = (column_T < batch.length_B.cpu()[:, None]).nonzero(as_tuple=True)
        with attention_of(causal.model, reading.attention):
            (state_NW,) = self._states(causal, reading, (reading.places((row_N, column_N)),))
        blank_BTW = state_NW.new_zeros(*batch.token_BT.shape, state_NW.shape[1])
        return blank_BTW.index_put(
            (row_N.to(state_NW.device), column_N.to(state_NW.device)), state_NW
        )

    def _states(
        self, causal: CausalModel, reading: Reading, places: tuple[Places, ...]
    ) -> list[Tensor]:
        """Hidden states at places of the rows that are read, N × width for each."""
        model = causal.model
        found = [
            torch.zeros(len(row_N), causal.width, dtype=model.dtype, device=causal.device)
            for row_N, _ in places
        ]
        for rows in self._split(reading.batch):
            part = reading.batch.rows(rows)
            # Nothing counts as scored here: every token may be a place.
            part = replace(part, turn_of_token_BT=_unscored(part))
            hidden = _hidden(reading, causal, part)
            rank_R = torch.full((len(reading.batch.length_B),), -1)
            rank_R[rows] = torch.arange(len(rows))
            for states_NW, (row_N, column_N) in zip(found, places, strict=True):
                mine_N = (rank_R[row_N] >= 0).nonzero()[:, 0]
                states_NW[mine_N] = hidden[rank_R[row_N[mine_N]], column_N[mine_N]]
        return found

    def _split(self, batch: TurnBatch) -> list[Tensor]:
        return microbatches(
            batch.length_B.cpu(), max_rows=self.max_rows, max_tokens=self.max_tokens
        )


def _unscored(batch: TurnBatch) -> Tensor:
    return torch.full_like(batch.token_BT, -1)


def _hidden(reading: Reading, causal: CausalModel, rows: TurnBatch) -> Tensor:
    return reading.read(causal, rows) if reading.read else causal.hidden(rows.token_BT)


def _compared_in_chunks(
    models: Sequence[CausalModel], states: Sequence[Tensor], target_N: Tensor, temperature: float
) -> list[Tensor]:
    """`compared` of hidden states, a few rows of logits at a time; float32 on the CPU."""
    size = models[0].chunk_size(states[0])
    pieces = zip(states[0].split(size), states[1].split(size), target_N.split(size), strict=True)
    parts = [
        compared(models[0].logits(p), models[1].logits(q), target, temperature)
        for p, q, target in pieces
    ]
    return [torch.cat(column).float().cpu() for column in zip(*parts, strict=True)]
