"""Key-value caches of many dialogues in preallocated slots.

Each dialogue owns a slot: one row of every layer's key and value arrays, written in place at the
dialogue's own next positions. Nothing is copied when a token is added, and attention reads only as
far as the longest row of the pass. Axes here: `R` rows of a pass, `N` new tokens of each row.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from turnwise.backends.causal import REFUSALS, CausalModel

BLOCK = 64  # positions by which slots grow at least


class SlotLayer(CacheLayerMixin):
    """One layer's keys and values: slots × heads × positions × head width."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the parent has no annotations
        self.stored: list[Tensor] = []  # keys and values, once their shape is known
        self.rows: Tensor | int = 0  # slots of this pass; a number R means slots 0..R-1
        self.place_RN: tuple[Tensor, Tensor] | None = None  # slot and position of each new token
        self.width = 0  # positions that attention may see in this pass
        self.capacity = (0, 0)  # slots, positions

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing ahead of the first `update`."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write the new keys and values (R × heads × N × width); return all that may be seen."""
        new = (key_states.transpose(1, 2), value_states.transpose(1, 2))
        if not self.stored or self.stored[0].shape[:3:2] != self.capacity:
            self.stored = [self._grown(i, states) for i, states in enumerate(new)]
        assert self.place_RN is not None, "a pass sets the place of its tokens first"
        slot_RN, position_RN = self.place_RN
        for stored, states in zip(self.stored, new, strict=True):
            stored[slot_RN, :, position_RN] = states
        keys, values = (self._seen(stored) for stored in self.stored)
        return keys, values

    def _grown(self, i: int, like: Tensor) -> Tensor:
        # Zeros, not empty: a masked value is multiplied by weight 0, which would keep a NaN.
        slots, positions = self.capacity
        grown = like.new_zeros(slots, like.shape[2], positions, like.shape[3])
        if self.stored:
            slots, _, positions, _ = self.stored[i].shape
            grown[:slots, :, :positions] = self.stored[i]
        return grown

    def _seen(self, stored: Tensor) -> Tensor:
        if isinstance(self.rows, int):
            return stored[: self.rows, :, : self.width]  # a view, no copy
        return stored[:, :, : self.width].index_select(0, self.rows)

    def get_seq_length(self) -> int:
        return 0  # positions and mask are given to every pass

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.width, 0

    def get_max_length(self) -> int:
        return -1


class SlotCache:
    """A model's forward passes over slots."""

    def __init__(self, causal: CausalModel) -> None:
        self.causal = causal
        count = int(causal.model.config.get_text_config().num_hidden_layers)
        self._layers = [SlotLayer() for _ in range(count)]
        self._cache = Cache(layers=list(self._layers))
        self._slots = 0
        self._positions = 0

    def clear(self) -> None:
        """Give the memory back."""
        self._slots = self._positions = 0
        for layer in self._layers:
            layer.stored = []

    def reserve(self, slots: int, positions: int) -> None:
        """Make room for that many slots and positions; what is stored stays."""
        if slots > self._slots:
            self._slots = max(slots, 2 * self._slots)
        if positions > self._positions:
            blocks = -(-max(positions, self._positions * 5 // 4) // BLOCK)
            self._positions = blocks * BLOCK
        for layer in self._layers:
            layer.capacity = (self._slots, self._positions)

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of one slot over another."""
        if length == 0:  # the source was given a dialogue, and perhaps no room yet
            return
        for layer in self._layers:
            for stored in layer.stored:
                stored[target, :, :length] = stored[source, :, :length]

    def logits(
        self, slots: Sequence[int], tokens: Sequence[Sequence[int]], starts: Sequence[int]
    ) -> Tensor:
        """Logits after the last new token of each row, R × V.

        slots: of each row, all different. tokens: new ids of each row, at least one; rows may
        differ in number. starts: position of each row's first new token; everything before it
        must be in the slot already, everything from it on is overwritten.
        """
        R, N = len(slots), max(len(ids) for ids in tokens)
        self.reserve(max(slots) + 1, max(starts) + N)
        device = self.causal.device
        token_RN = torch.zeros(R, N, dtype=torch.int64)
        for r, ids in enumerate(tokens):
            token_RN[r, : len(ids)] = torch.tensor(ids)
        start_R = torch.tensor(starts)
        position_RN = start_R[:, None] + torch.arange(N)
        # Padding behind a short row lands beyond its end, where its next real tokens will be
        # written before anyone may see them.
        slot_R = torch.tensor(slots)
        width = int(position_RN.max()) + 1
        is_prefix = list(slots) == list(range(R))
        place = (slot_R[:, None].expand(R, N).to(device), position_RN.to(device))
        for layer in self._layers:
            layer.rows = R if is_prefix else slot_R.to(device)
            layer.place_RN, layer.width = place, width
        hidden_RN = self.causal.decoder(
            input_ids=token_RN.to(device),
            position_ids=place[1],
            attention_mask=self._mask(place[1], width),
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        last_R = torch.tensor([len(ids) - 1 for ids in tokens], device=device)
        hidden_R = hidden_RN[torch.arange(R, device=device), last_R]
        logits_RV: Tensor = self.causal.head(hidden_R)
        return logits_RV

    def _mask(self, position_RN: Tensor, width: int) -> Tensor:
        """Additive: 0 where a token may look (itself and before), the least number elsewhere."""
        dtype = self.causal.model.dtype
        seen = torch.arange(width, device=position_RN.device) <= position_RN[:, None, :, None]
        mask = torch.zeros(seen.shape, dtype=dtype, device=position_RN.device)
        return mask.masked_fill_(~seen, torch.finfo(dtype).min)


class Recompute:
    """The same passes for models whose cache is not plain attention: everything, every time.

    Sliding windows, state spaces and logits that are not head(hidden) are all right here; the price
    is a full pass over the dialogue for each token.
    """

    def __init__(self, causal: CausalModel) -> None:
        self.causal = causal
        self._ids: dict[int, list[int]] = {}

    def clear(self) -> None:
        """Forget every dialogue."""
        self._ids = {}

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` tokens of one slot over another."""
        self._ids[target] = self._ids.get(source, [])[:length]

    def logits(
        self, slots: Sequence[int], tokens: Sequence[Sequence[int]], starts: Sequence[int]
    ) -> Tensor:
        """Logits after the last token of each row, R × V."""
        rows = []
        for slot, ids, start in zip(slots, tokens, starts, strict=True):
            self._ids[slot] = [*self._ids.get(slot, [])[:start], *ids]
            rows.append(self._ids[slot])
        width = max(len(ids) for ids in rows)
        token_RT = torch.tensor([ids + [0] * (width - len(ids)) for ids in rows])
        token_RT = token_RT.to(self.causal.device)
        last = [len(ids) - 1 for ids in rows]
        hidden_R = self.causal.hidden(token_RT)[torch.arange(len(rows)), last]
        return self.causal.logits(hidden_R)


def keeps_plain_cache(causal: CausalModel) -> bool:
    """Whether slots are right for this model: plain attention everywhere, and a probe agrees."""
    config = causal.model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    windowed = getattr(config, "sliding_window", None) and getattr(
        config, "use_sliding_window", True
    )
    if kinds != {"full_attention"} or windowed or not causal.logits_are_head_of_hidden:
        return False
    return _probe_agrees(causal)


@torch.inference_mode()
def _probe_agrees(causal: CausalModel) -> bool:
    ids = [i % causal.vocab_size for i in range(2, 8)]
    slots, whole = SlotCache(causal), Recompute(causal)
    try:
        slots.logits([1, 0], [ids[:2], ids[:4]], [0, 0])
        found = slots.logits([0, 1], [ids[4:], ids[2:]], [4, 2])
    except REFUSALS:
        return False  # the architecture wants a cache of its own kind
    expected = whole.logits([0, 1], [ids, ids], [0, 0])
    return bool(torch.allclose(found.float(), expected.float(), rtol=2e-2, atol=2e-2))
