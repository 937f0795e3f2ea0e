"""How a Hugging Face model reads rows of trees, all with the same numbers.

    mask      one pass under a dense mask: any model that takes one
    flex      one pass under a block mask: on a GPU, nothing of size S × S is made
    cache     the longest text of each tree first, then all the rest in one pass that sees its keys
    crop      the same without a mask: branch after branch, the cache cut back to each fork
    separate  every context a row of its own: models without any notion of branches

Which ones are right for a model a probe tells: a small tree read that way and as separate texts.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from turnwise.backends.causal import REFUSALS, CausalModel, Read, attention_of
from turnwise.backends.masks import block_mask, dense_mask, layer_windows, mask_argument
from turnwise.backends.trees import (
    Cut,
    are_texts,
    depth,
    has_child,
    is_token,
    paths_apart,
    positions_are_columns,
    tree_of,
    trees_apart,
)
from turnwise.errors import ConfigError
from turnwise.tokens import TurnBatch
from turnwise.tokens.tree import Tree

Way = Literal["mask", "flex", "cache", "crop", "separate"]
Asked = Way | Literal["auto"]
NO_GRADIENT: tuple[Way, ...] = ("cache", "crop")
# Tokens of a tree from which a pass for each branch costs less than a mask over all of them: on two
# CPU cores, trunk and branches in plain passes over the trunk, by cache and by crop: 1.41 and 1.47
# at 440 tokens, 1.54 and 1.54 at 900, 1.82 and 1.63 at 1,500, 2.37 and 1.89 at 3,500.
LONG_TREE = 1000


def branch_way(
    asked: Asked,
    works: Callable[[Way], bool],
    *,
    longest: int,
    on_gpu: bool,
    is_training: bool,
) -> Way:
    """The way for rows with forks: the one asked for, or the fastest that works.

    longest: tokens of the largest tree. Ways through a cache give no gradient: training takes a
    mask instead.
    """
    order: tuple[Way, ...] = ("cache", "mask", "crop")
    if asked != "auto":
        order = (asked,)
    elif on_gpu:
        order = ("flex", *order)
    elif longest > LONG_TREE:
        order = ("crop", *order)
    if is_training:
        order = tuple(way for way in order if way not in NO_GRADIENT) or ("mask",)
    return next((way for way in order if works(way)), "separate")


@dataclass(frozen=True)
class Reading:
    """How one batch is read: which rows, by what, and the way home."""

    way: Way | None  # None: plain texts
    batch: TurnBatch
    read: Read | None
    cut: Cut | None
    attention: str | None  # implementation for the time of the pass, backward pass included

    def home(self, value_RS: Tensor) -> Tensor:
        """Values of scored tokens in the rows as they were given."""
        return value_RS if self.cut is None else self.cut.home(value_RS)

    def places(self, old: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return old if self.cut is None else self.cut.places(old)


class TreeReader:
    """Reads rows of trees with models of one architecture."""

    def __init__(self, causal: CausalModel, asked: Asked = "auto") -> None:
        """Raises ConfigError for an unknown way, or one that is wrong for this model."""
        if asked not in ("auto", *get_args(Way)):
            raise ConfigError(f"expected a branch_way of {('auto', *get_args(Way))}, got {asked!r}")
        self.asked = asked
        self._causal = causal
        self._windows = layer_windows(causal.model)
        self._known: dict[Way, bool] = {"separate": True}
        self._reads: dict[Way, Read] = {
            "mask": self.masked,
            "flex": self.flexible,
            "cache": self.cached,
            "crop": cropped,
            "separate": self.texts,
        }
        if asked != "auto" and not self.works(asked):
            raise ConfigError(
                f"{type(causal.model).__name__} gives other numbers for branches by {asked!r} than "
                "for separate texts; set branch_way to auto or separate"
            )

    @property
    def reads_branches(self) -> bool:
        """Whether packed rows save anything over separate ones."""
        return self.works("mask") or self.works("crop")

    def works(self, way: Way) -> bool:
        """Whether a small tree, read that way, gives what its texts give one by one."""
        if way not in self._known:
            # By crop a model counts its windows in columns, which is wrong where positions jump.
            is_known = bool(self._windows) and not (way == "crop" and any(self._windows.values()))
            self._known[way] = is_known and self._agrees(way)
        return self._known[way]

    def reading(self, batch: TurnBatch, *, is_training: bool = False) -> Reading:
        """How to read this batch, counted nowhere yet."""
        if batch.tree is None:
            return Reading(None, batch, None, None, None)
        batch = batch.to(torch.device("cpu"))
        trees = trees_apart(batch)
        way: Way = "separate"
        if not are_texts(trees.batch):
            way = branch_way(
                self.asked,
                self.works,
                longest=trees.batch.token_BT.shape[1],
                on_gpu=self._causal.device.type == "cuda",
                is_training=is_training,
            )
        if way == "flex":  # empty blocks cost nothing: rows may be long
            return Reading(way, batch, self.flexible, None, self._attention(way))
        cut = paths_apart(batch) if way == "separate" else trees
        return Reading(way, cut.batch, self._reads[way], cut, self._attention(way))

    def masked(self, causal: CausalModel, batch: TurnBatch) -> Tensor:
        tree = tree_of(batch).to(causal.device)
        column_BT = torch.arange(batch.token_BT.shape[1], device=causal.device)[None]
        column_BT = column_BT.expand(batch.token_BT.shape)
        mask = self._dense(causal, tree, column_BT, column_BT)
        return causal.hidden(batch.token_BT, attention_mask=mask, position_ids=tree.position_BT)

    def flexible(self, causal: CausalModel, batch: TurnBatch) -> Tensor:
        tree = tree_of(batch).to(causal.device)
        mask = mask_argument(self._windows, lambda window: block_mask(tree, window=window))
        return causal.hidden(batch.token_BT, attention_mask=mask, position_ids=tree.position_BT)

    def texts(self, causal: CausalModel, batch: TurnBatch) -> Tensor:
        """Rows without a fork; their positions may have holes."""
        if positions_are_columns(batch):
            return causal.hidden(batch.token_BT)
        if any(self._windows.values()) and self.works("mask"):
            return self.masked(causal, batch)  # the window counts positions, not columns
        # A hole in positions is taken for the border between documents unless a mask is given.
        position_BT = tree_of(batch).position_BT.to(causal.device)
        return causal.hidden(
            batch.token_BT, attention_mask=torch.ones_like(position_BT), position_ids=position_BT
        )

    def cached(self, causal: CausalModel, batch: TurnBatch) -> Tensor:
        """The longest text of each row, then the rest of the row over its keys and values."""
        B, T = batch.token_BT.shape
        first_BL, rest_BN = longest_texts(batch)
        tree, token_BT = widened(tree_of(batch).to(causal.device), batch.token_BT)
        first_BL, rest_BN = first_BL.to(causal.device), rest_BN.to(causal.device)
        cache = DynamicCache()  # without the config: windowed layers keep everything too
        out = None
        for query_BQ, key_BK in (
            (first_BL, first_BL),
            (rest_BN, torch.cat([first_BL, rest_BN], dim=1)),
        ):
            if query_BQ.shape[1] == 0:
                continue
            is_plain = query_BQ is key_BK and not any(self._windows.values())
            hidden_BQW = causal.hidden(
                token_BT.gather(1, query_BQ.cpu()),
                position_ids=tree.position_BT.gather(1, query_BQ),
                attention_mask=None if is_plain else self._dense(causal, tree, query_BQ, key_BK),
                past_key_values=cache,
                use_cache=True,
            )
            if out is None:
                out = hidden_BQW.new_empty(B, T + 1, hidden_BQW.shape[2])
            out[torch.arange(B, device=out.device)[:, None], query_BQ] = hidden_BQW
        assert out is not None, "a row of trees holds at least one token"
        return out[:, :T]

    def _dense(self, causal: CausalModel, tree: Tree, query_BQ: Tensor, key_BK: Tensor) -> object:
        dtype = causal.model.dtype
        return mask_argument(
            self._windows,
            lambda window: dense_mask(tree, query_BQ, key_BK, window=window, dtype=dtype),
        )

    def _attention(self, way: Way) -> str | None:
        """The attention implementation to switch to, if the model's own does not take this way."""
        if way == "flex":
            return "flex_attention"
        own = str(self._causal.model.config._attn_implementation)
        return "sdpa" if "flash" in own and way != "crop" else None

    @torch.no_grad()
    def _agrees(self, way: Way) -> bool:
        probe = probe_tree(self._causal.vocab_size)
        texts = paths_apart(probe)
        expected = self._causal.hidden(texts.batch.token_BT)
        row_N, column_N = is_token(probe).nonzero(as_tuple=True)
        now = texts.places((row_N, column_N))
        try:
            with attention_of(self._causal.model, self._attention(way)):
                found = self._reads[way](self._causal, probe)[is_token(probe)]
        except REFUSALS:
            return False
        return bool(torch.allclose(found.float(), expected[now].float(), rtol=2e-2, atol=2e-2))


def cropped(causal: CausalModel, batch: TurnBatch) -> Tensor:
    """Row by row: the longest text, then what forks from it, last fork first."""
    tree = tree_of(batch)
    out: Tensor | None = None
    for b in range(len(batch.length_B)):
        row = batch.rows([b])
        cache = DynamicCache()
        for column_N, before in texts_in_order(row):
            cut_back(cache, before)
            hidden_NW = causal.hidden(
                row.token_BT[:, column_N],
                position_ids=tree.position_BT[b, column_N][None].to(causal.device),
                past_key_values=cache,
                use_cache=True,
            )[0]
            if out is None:
                out = hidden_NW.new_zeros(*batch.token_BT.shape, hidden_NW.shape[1])
            out[b, column_N] = hidden_NW
    assert out is not None, "a row of trees holds at least one token"
    return out


def cut_back(cache: DynamicCache, length: int) -> None:
    """Forget all but the first `length` tokens of every layer."""
    # A negative number removes that many in every release; what a positive one means has changed.
    excess = cache.get_seq_length() - length
    if excess > 0:
        cache.crop(-excess)


def texts_in_order(row: TurnBatch) -> Iterator[tuple[Tensor, int]]:
    """The columns of each text of a tree and how many tokens are before it, last fork first.

    What a text forks from stands in the cache when its turn comes: only cutting back is needed.
    """
    depth_S, end_S = depth(tree_of(row))[0], tree_of(row).end_BT[0]
    spans = [(0, int(row.length_B[0]))]
    while spans:
        start, stop = spans.pop()
        column_N = torch.arange(start, stop)
        deepest = start + int(depth_S[start:stop].argmax())
        on_path_N = (column_N <= deepest) & (deepest < end_S[start:stop])
        yield column_N[on_path_N], int(depth_S[start])
        # What is left are whole subtrees; the one that forks latest is read next.
        left, begin = [], start
        while begin < stop:
            if on_path_N[begin - start]:
                begin += 1
            else:
                left.append((begin, int(end_S[begin])))
                begin = left[-1][1]
        spans += sorted(left, key=lambda span: int(depth_S[span[0]]))


def longest_texts(batch: TurnBatch) -> tuple[Tensor, Tensor]:
    """The columns of each row's longest text and those of all else, B × L and B × N.

    Both are filled up by column T, one past the row. Scored tokens that end a text are left out:
    nothing is predicted after them.
    """
    tree, needed_BT = tree_of(batch), is_token(batch)
    column_T = torch.arange(needed_BT.shape[1])
    deepest_B = torch.where(needed_BT, depth(tree), -1).argmax(dim=1)[:, None]
    first_BT = (column_T <= deepest_B) & (deepest_B < tree.end_BT)
    needed_BT &= has_child(batch) | ~batch.written_BT
    return columns_where(first_BT & needed_BT), columns_where(~first_BT & needed_BT)


def columns_where(chosen_BT: Tensor) -> Tensor:
    """The chosen columns of each row in order, filled up by T."""
    T = chosen_BT.shape[1]
    column_BT = torch.where(chosen_BT, torch.arange(T), T).sort(dim=1).values
    return column_BT[:, : int(chosen_BT.sum(dim=1).max())]


def widened(tree: Tree, token_BT: Tensor) -> tuple[Tree, Tensor]:
    """One more column, T: a token that nobody sees, for padding to point to."""
    T = token_BT.shape[1]
    pad = torch.nn.functional.pad
    wider = Tree(
        position_BT=pad(tree.position_BT, (0, 1)),
        end_BT=pad(tree.end_BT, (0, 1), value=T + 1),
        parent_BT=pad(tree.parent_BT, (0, 1), value=-1),
    )
    return wider, pad(token_BT, (0, 1))


def probe_tree(vocab_size: int) -> TurnBatch:
    """A text of seven tokens and a branch of three from its fourth."""
    parent = torch.tensor([[-1, 0, 1, 2, 3, 4, 5, 3, 7, 8]])
    token = (torch.arange(2, 12) * 7 % vocab_size)[None]
    tree = Tree(
        position_BT=torch.tensor([[0, 1, 2, 3, 4, 5, 6, 4, 5, 6]]),
        end_BT=torch.tensor([[10, 10, 10, 10, 7, 7, 7, 10, 10, 10]]),
        parent_BT=parent,
    )
    nothing = torch.zeros(token.shape)
    return TurnBatch(token, torch.full_like(token, -1), nothing, torch.tensor([10]), tree)
