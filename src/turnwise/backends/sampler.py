"""Many dialogues decoded together, their caches kept between turns.

Callers await `sample`; one task decodes whoever is in the middle of a message, one token a pass,
gives the loop a turn between passes so that users are awaited meanwhile, and ends when there is
nothing to write. New prompts are read together, only the tokens since the dialogue's last turn.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from turnwise.backends.causal import CausalModel
from turnwise.backends.noise import as_seed, draw, uniforms
from turnwise.backends.protocol import Sample, SampleRequest
from turnwise.backends.slots import Recompute, SlotCache
from turnwise.errors import BudgetError, ConfigError, SpeakerError, TokensError

PREFILL_TOKENS = 8192  # rows × longest new prompt of one prefill pass
PATIENCE = 8  # decoding passes that a prompt waits at most for company


@dataclass
class _Dialogue:
    """A slot's content: which tokens its cache holds, and for whom."""

    slot: int
    session: str | None
    cached: list[int] = field(default_factory=list)
    busy: bool = True
    last_used: int = 0


@dataclass
class _Writing:
    """A request in the middle of its message."""

    request: SampleRequest
    future: asyncio.Future[Sample]
    arrived: int  # pass number
    dialogue: _Dialogue | None = None
    token_ids: list[int] = field(default_factory=list)
    logp: list[float] = field(default_factory=list)

    @property
    def position(self) -> int:
        """Of the token to be drawn next, in the dialogue."""
        return len(self.request.prompt_ids) + len(self.token_ids)

    def stop_reason(self) -> str | None:
        if self.token_ids and self.token_ids[-1] in self.request.stop_ids:
            return "stop"
        return "length" if len(self.token_ids) >= self.request.max_new_tokens else None


class BatchedSampler:
    """Implements `Sampler` on a model whose weights do not change."""

    def __init__(
        self,
        causal: CausalModel,
        *,
        slots: int,
        keeps_cache: bool,
        activate: Callable[[], None] | None = None,
    ) -> None:
        """slots: dialogues whose caches are kept. keeps_cache: False computes everything again for
        each token (`slots.keeps_plain_cache` tells who needs it). activate: called before every
        pass; it turns the right adapter on where the base is shared."""
        if slots < 1:
            raise ConfigError(f"expected at least one slot to decode in, got {slots}")
        self.causal = causal
        self.slots = slots
        self._activate = activate or (lambda: None)
        self._cache: SlotCache | Recompute = SlotCache(causal) if keeps_cache else Recompute(causal)
        self._dialogues: dict[int, _Dialogue] = {}  # by slot; slots 0..n-1, without gaps
        self._sessions: dict[str, _Dialogue] = {}
        self._waiting: list[_Writing] = []
        self._writing: list[_Writing] = []
        self._task: asyncio.Task[None] | None = None
        self._passes = 0
        self.evictions = 0  # idle dialogues whose cache was given up for another

    @property
    def cache_kind(self) -> str:
        """ "slots" (kept caches) or "recompute" (a full pass for each token)."""
        return "slots" if isinstance(self._cache, SlotCache) else "recompute"

    async def sample(self, request: SampleRequest) -> Sample:
        """Write one message.

        Raises TokensError for an empty prompt, BudgetError for one that the model's positions
        cannot hold with its answer, ConfigError for limits that make no sense, SpeakerError if
        the model failed while this message was being written.
        """
        self._check(request)
        loop = asyncio.get_running_loop()
        if self._task is not None and self._task.get_loop().is_closed():
            self._forget()  # its loop ended in the middle of a message; nobody waits any more
        writing = _Writing(request, loop.create_future(), arrived=self._passes)
        self._waiting.append(writing)
        if self._task is None:
            self._start(loop)
        return await writing.future

    def release(self, session: str) -> None:
        """The dialogue is over: its slot is free for another."""
        dialogue = self._sessions.pop(session, None)
        if dialogue is not None and not dialogue.busy:
            self._vacate(dialogue.slot)
        elif dialogue is not None:
            dialogue.session = None  # freed when its message is complete

    def _check(self, request: SampleRequest) -> None:
        if not request.prompt_ids:
            raise TokensError("expected at least one token to continue, got an empty prompt")
        if request.max_new_tokens < 1:
            raise ConfigError(f"expected max_new_tokens of 1 or more, got {request.max_new_tokens}")
        if request.temperature < 0:
            raise ConfigError(f"expected a temperature of 0 or more, got {request.temperature}")
        limit, total = self.causal.max_positions, len(request.prompt_ids) + request.max_new_tokens
        if limit is not None and total > limit:
            raise BudgetError(
                f"a prompt of {len(request.prompt_ids)} tokens and {request.max_new_tokens} new "
                f"ones exceed the model's {limit} positions; lower the limits of the dialogue"
            )

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._task = loop.create_task(self._run())
        self._task.add_done_callback(self._finish)

    def _forget(self) -> None:
        self._task = None
        self._waiting, self._writing = [], []
        self._dialogues, self._sessions = {}, {}
        self._cache.clear()

    async def _run(self) -> None:
        while self._waiting or self._writing:
            await self._let_others_speak()
            self._drop_cancelled()
            if self._prefill_is_due():
                self._prefill()
            if self._writing:
                self._decode()
            self._passes += 1

    async def _let_others_speak(self) -> None:
        # Users that answer at once need a few turns of the loop until their dialogue is back here:
        # as long as each turn brings someone, wait for the next.
        before = -1
        while len(self._waiting) > before:
            before = len(self._waiting)
            await asyncio.sleep(0)

    def _finish(self, task: asyncio.Task[None]) -> None:
        """Pass an error to everyone who waits: nobody hangs, and the sampler is usable again."""
        self._task = None
        error = None if task.cancelled() else task.exception()
        left = self._waiting + self._writing
        if not task.cancelled() and error is None:
            if left:  # came between the last message and this call
                self._start(task.get_loop())
            return
        self._forget()
        for writing in left:
            if writing.future.done():
                continue
            if error is None:
                writing.future.cancel()
                continue
            failure = SpeakerError(f"the sampler's model failed: {type(error).__name__}: {error}")
            failure.__cause__ = error
            writing.future.set_exception(failure)

    def _drop_cancelled(self) -> None:
        for writing in [*self._waiting, *self._writing]:
            if writing.future.done() and writing.dialogue is not None:
                self._leave(writing.dialogue)
        self._waiting = [writing for writing in self._waiting if not writing.future.done()]
        self._writing = [writing for writing in self._writing if not writing.future.done()]

    def _prefill_is_due(self) -> bool:
        """Reading a few prompts costs a pass: wait for company while many others decode."""
        if not self._waiting:
            return False
        if 4 * len(self._waiting) >= len(self._writing):
            return True
        return self._passes - self._waiting[0].arrived >= PATIENCE

    def _prefill(self) -> None:
        ready: list[_Writing] = []
        for writing in self._waiting:
            writing.dialogue = self._enter(writing.request)
            if writing.dialogue is None:
                break  # no slot is free: first come, first served
            ready.append(writing)
        self._waiting = self._waiting[len(ready) :]
        self._writing += ready
        starts = {id(writing): self._rewind(writing) for writing in ready}
        ready.sort(key=lambda w: len(w.request.prompt_ids) - starts[id(w)])
        while ready:
            rows = _rows_that_fit(
                [len(w.request.prompt_ids) - starts[id(w)] for w in ready], PREFILL_TOKENS
            )
            self._advance(
                ready[:rows],
                [w.request.prompt_ids[starts[id(w)] :] for w in ready[:rows]],
            )
            ready = ready[rows:]

    def _rewind(self, writing: _Writing) -> int:
        """Cut the dialogue's cache to what the prompt shares with it; at least one token is new."""
        assert writing.dialogue is not None
        cached, prompt = writing.dialogue.cached, writing.request.prompt_ids
        shared = min(len(cached), len(prompt) - 1)
        if tuple(cached[:shared]) != prompt[:shared]:
            shared = next(i for i in range(shared) if cached[i] != prompt[i])
        del cached[shared:]
        return shared

    def _decode(self) -> None:
        rows = sorted(self._writing, key=lambda w: w.dialogue.slot if w.dialogue else 0)
        self._advance(rows, [w.token_ids[-1:] for w in rows])

    @torch.inference_mode()
    def _advance(self, rows: Sequence[_Writing], tokens: Sequence[Sequence[int]]) -> None:
        """Read the new tokens of each row and draw the next one."""
        dialogues = [w.dialogue for w in rows if w.dialogue is not None]
        self._activate()
        logits_RV = self._cache.logits(
            [dialogue.slot for dialogue in dialogues],
            tokens,
            [len(dialogue.cached) for dialogue in dialogues],
        )
        token_R, logp_R = _draw_next(logits_RV, rows)
        for w, dialogue, ids, token, logp in zip(
            rows, dialogues, tokens, token_R, logp_R, strict=True
        ):
            dialogue.cached.extend(ids)
            w.token_ids.append(token)
            w.logp.append(logp)
        self._complete(rows)

    def _complete(self, rows: Sequence[_Writing]) -> None:
        done = [(w, reason) for w in rows if (reason := w.stop_reason()) is not None]
        for w, reason in done:
            if w.dialogue is not None:
                self._leave(w.dialogue)
            if not w.future.done():
                w.future.set_result(Sample(tuple(w.token_ids), tuple(w.logp), reason))
        if done:
            self._writing = [w for w in self._writing if w.stop_reason() is None]

    def _enter(self, request: SampleRequest) -> _Dialogue | None:
        """The dialogue's slot: its own, a free one, or that of the longest idle dialogue."""
        known = self._sessions.get(request.session) if request.session is not None else None
        if known is not None and not known.busy:
            known.busy = True
            return known
        slot = self._free_slot()
        if slot is None:
            return None
        dialogue = _Dialogue(slot, request.session if known is None else None)
        self._dialogues[slot] = dialogue
        if dialogue.session is not None:
            self._sessions[dialogue.session] = dialogue
        return dialogue

    def _free_slot(self) -> int | None:
        if len(self._dialogues) < self.slots:
            return len(self._dialogues)
        idle = [dialogue for dialogue in self._dialogues.values() if not dialogue.busy]
        if not idle:
            return None
        oldest = min(idle, key=lambda dialogue: dialogue.last_used)
        self.evictions += 1
        if oldest.session is not None:
            del self._sessions[oldest.session]
        del self._dialogues[oldest.slot]
        return oldest.slot

    def _leave(self, dialogue: _Dialogue) -> None:
        dialogue.busy, dialogue.last_used = False, self._passes
        if dialogue.session is None:
            self._vacate(dialogue.slot)

    @torch.inference_mode()
    def _vacate(self, slot: int) -> None:
        """Free a slot; the last dialogue moves into it.

        Without gaps, a pass over every dialogue reads the caches where they are, with no copy.
        """
        del self._dialogues[slot]
        last = len(self._dialogues)
        if slot != last:
            moved = self._dialogues.pop(last)
            self._cache.move(last, slot, len(moved.cached))
            moved.slot = slot
            self._dialogues[slot] = moved


def _rows_that_fit(lengths: Sequence[int], max_tokens: int) -> int:
    """How many of the first rows (ascending lengths) make a pass of at most max_tokens; ≥ 1."""
    rows = 1
    while rows < len(lengths) and (rows + 1) * lengths[rows] <= max_tokens:
        rows += 1
    return rows


def _draw_next(logits_RV: Tensor, rows: Sequence[_Writing]) -> tuple[list[int], list[float]]:
    seed_R = np.array([as_seed(w.request.noise_seed) for w in rows], dtype=np.uint64)
    position_R = np.array([w.position for w in rows], dtype=np.int64)
    uniform_R = torch.from_numpy(uniforms(seed_R, position_R)).to(logits_RV.device)
    temperature_R = torch.tensor(
        [w.request.temperature for w in rows], dtype=torch.float32, device=logits_RV.device
    )
    token_R, logp_R = draw(logits_RV, uniform_R, temperature_R)
    tokens: list[int] = token_R.tolist()
    logps: list[float] = logp_R.tolist()
    return tokens, logps
