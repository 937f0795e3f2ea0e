"""Toy A's world and model: eight cues, eight answers, and a tiny causal transformer.

At turn k the user shows one of four cues and the assistant answers with one of four tokens; a
hidden permutation, the same at every turn, says which is right. Success is drawn with probability
equal to the share of right answers. Tokens of turn k: cue, separator, answer.

The model reads every token but writes only answers: logits are computed where an answer is
predicted, over the four answers. Axes: B dialogues, K turns, T = 3K positions, H heads, D width of
a head.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn

K = 8
NUM_CUES = NUM_ANSWERS = 4
SEPARATOR = NUM_CUES
FIRST_ANSWER = NUM_CUES + 1
VOCABULARY = NUM_CUES + 1 + NUM_ANSWERS
T = 3 * K
WIDTH, HEADS = 64, 4

Cache = list[tuple[Tensor, Tensor]]  # keys and values of each layer, B H T D


class Block(nn.Module):
    """One pre-norm layer whose queries may be fewer than its keys."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.key_value = nn.Linear(WIDTH, 2 * WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def keys_values(self, x_BTC: Tensor) -> tuple[Tensor, Tensor]:
        key, value = self.key_value(self.norm_attention(x_BTC)).chunk(2, dim=-1)
        return heads(key), heads(value)

    def forward(self, x_BTC: Tensor, keys_values: tuple[Tensor, Tensor], sees_TT: Tensor) -> Tensor:
        attended: Tensor = nn.functional.scaled_dot_product_attention(
            heads(self.query(self.norm_attention(x_BTC))), *keys_values, attn_mask=sees_TT
        )
        x_BTC = x_BTC + self.out(attended.transpose(1, 2).flatten(2))
        return x_BTC + cast(Tensor, self.mlp(self.norm_mlp(x_BTC)))


def heads(x_BTC: Tensor) -> Tensor:
    """B T C as B H T D."""
    split: Tensor = x_BTC.unflatten(-1, (HEADS, WIDTH // HEADS))
    return split.transpose(1, 2)


class Model(nn.Module):
    """Two layers of width 64. The head starts at zero: every answer has probability 1/4."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(VOCABULARY, WIDTH)
        self.position = nn.Embedding(T, WIDTH)
        self.first, self.second = Block(), Block()
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, NUM_ANSWERS)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def answer_logp(self, token_BT: Tensor) -> Tensor:
        """Log-probability of every possible answer of every turn. Returns B K NUM_ANSWERS."""
        sees_TT = torch.ones(T, T, dtype=torch.bool).tril()
        x_BTC = self.token(token_BT) + self.position.weight
        x_BTC = self.first(x_BTC, self.first.keys_values(x_BTC), sees_TT)
        # The top layer asks only where an answer is predicted: at the separators.
        x_BKC = self.second(x_BTC[:, 1::3], self.second.keys_values(x_BTC), sees_TT[1::3])
        logp: Tensor = self.head(self.norm(x_BKC)).log_softmax(-1)
        return logp

    def logp(self, token_BT: Tensor) -> Tensor:
        """Log-probability of each answer, 0 on every other token. Returns logp_BT."""
        answer_BK = token_BT[:, 2::3] - FIRST_ANSWER
        logp_BK = self.answer_logp(token_BT).gather(2, answer_BK.unsqueeze(2)).squeeze(2)
        silent_BK = torch.zeros_like(logp_BK)
        return torch.stack([silent_BK, silent_BK, logp_BK], dim=2).flatten(1)

    def next_answer_logp(self, new_BT: Tensor, start: int, cache: Cache) -> Tensor:
        """Log-probability of the answer after the tokens `new_BT`, which begin at `start`.

        cache: of everything before; the new keys and values are appended. Returns B NUM_ANSWERS.
        """
        stop = start + new_BT.shape[1]
        x_BTC = self.token(new_BT) + self.position.weight[start:stop]
        sees_TT = torch.ones(stop, stop, dtype=torch.bool).tril()[start:]
        for layer, block in enumerate((self.first, self.second)):
            new = block.keys_values(x_BTC)
            keys, values = (torch.cat(p, 2) for p in zip(cache[layer], new, strict=True))
            cache[layer] = (keys, values)
            if block is self.second:
                x_BTC, sees_TT = x_BTC[:, -1:], sees_TT[-1:]
            x_BTC = block(x_BTC, cache[layer], sees_TT)
        logp: Tensor = self.head(self.norm(x_BTC[:, -1])).log_softmax(-1)
        return logp


@torch.no_grad()
def play(model: Model, cue_BK: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One dialogue for each row of cues. Returns token_BT and logp_behaviour_BT."""
    B = len(cue_BK)
    token_BT = torch.full((B, T), SEPARATOR)
    token_BT[:, ::3] = cue_BK
    logp_BT = torch.zeros(B, T)
    empty = torch.zeros(B, HEADS, 0, WIDTH // HEADS)
    cache: Cache = [(empty, empty), (empty, empty)]
    for k in range(K):
        start, stop = max(3 * k - 1, 0), 3 * k + 2
        logp_BA = model.next_answer_logp(token_BT[:, start:stop], start, cache)
        answer_B = torch.multinomial(logp_BA.exp(), 1, generator=generator)
        token_BT[:, stop] = FIRST_ANSWER + answer_B.squeeze(1)
        logp_BT[:, stop] = logp_BA.gather(1, answer_B).squeeze(1)
    return token_BT, logp_BT


TURN_OF_TOKEN_T = torch.stack(
    [torch.full((K,), -1), torch.full((K,), -1), torch.arange(K)], dim=1
).flatten()
LOGP_UNIFORM = -math.log(NUM_ANSWERS)


def right_answers(token_BT: Tensor, permutation: Tensor) -> Tensor:
    """right_BK: whether each answer was the hidden one for its cue."""
    return permutation[token_BT[:, ::3]] == token_BT[:, 2::3] - FIRST_ANSWER
