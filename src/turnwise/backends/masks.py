"""Who sees whom, in the forms that Hugging Face models take.

The rule of a tree is k ≤ q < end[k]; a layer with a window W adds position[q] − position[k] < W.
Models take one mask for all layers, or one for each type of layer where types differ (one mask
would reach windowed layers unchanged). Axes: `Q` queries and `K` keys, by column of their row.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import PreTrainedConfig, PreTrainedModel

from turnwise.tokens.tree import Tree

Windows = Mapping[str, int | None]  # type of layer -> its window; None: it sees everything
Mask = Tensor | BlockMask


def layer_windows(model: PreTrainedModel) -> Windows:
    """The windows of a model's layers by type; empty where a layer is no such attention at all."""
    config: PreTrainedConfig = model.config.get_text_config()
    uses_window = getattr(config, "use_sliding_window", True)
    window: int | None = getattr(config, "sliding_window", None) if uses_window else None
    kinds = set(getattr(config, "layer_types", None) or [])
    if not kinds:
        kinds = {"sliding_attention" if window else "full_attention"}
    if kinds - {"full_attention", "sliding_attention"}:
        return {}
    return {kind: window if kind == "sliding_attention" else None for kind in sorted(kinds)}


def mask_argument(windows: Windows, make: Callable[[int | None], Mask]) -> Mask | dict[str, Mask]:
    """What the decoder's `attention_mask` is to be, from the mask for each window."""
    masks = {kind: make(window) for kind, window in windows.items()}
    return masks if len(masks) > 1 else next(iter(masks.values()))


def dense_mask(
    tree: Tree, query_BQ: Tensor, key_BK: Tensor, *, window: int | None, dtype: torch.dtype
) -> Tensor:
    """B × 1 × Q × K, to be added to attention scores: 0 where q sees k, −inf elsewhere.

    Added, because eager attention adds whatever it is given, a boolean mask too. Every query must
    see a key (padding: itself), or its row would be NaN and poison the next layer.
    """
    q, k = query_BQ[:, :, None], key_BK[:, None, :]
    seen = (k <= q) & (q < tree.end_BT.gather(1, key_BK)[:, None, :])
    if window is not None:
        place_BQ, place_BK = (tree.position_BT.gather(1, at) for at in (query_BQ, key_BK))
        seen &= place_BQ[:, :, None] - place_BK[:, None, :] < window
    zero = torch.zeros((), dtype=dtype, device=seen.device)
    return torch.where(seen, zero, -torch.inf)[:, None]


def block_mask(tree: Tree, *, window: int | None) -> BlockMask:
    """The same rule for FlexAttention: on a GPU nothing of size S × S is made."""
    end_BT, position_BT = tree.end_BT, tree.position_BT
    B, S = end_BT.shape

    def sees(b: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        seen: Tensor = (k <= q) & (q < end_BT[b, k])
        return seen

    def sees_near(b: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return sees(b, head, q, k) & (position_BT[b, q] - position_BT[b, k] < (window or 0))

    rule = sees if window is None else sees_near
    # Compiled it goes block by block; not compiled it makes all of S × S first.
    make = torch.compile(create_block_mask) if end_BT.is_cuda else create_block_mask
    return make(rule, B, None, S, S, device=str(end_BT.device))
