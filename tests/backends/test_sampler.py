"""Batched decoding with caches kept between turns gives what one dialogue alone would get."""

import asyncio
from collections.abc import Sequence

import pytest
import torch

from turnwise.backends import Sample, SampleRequest
from turnwise.backends.causal import CausalModel
from turnwise.backends.sampler import BatchedSampler
from turnwise.backends.slots import keeps_plain_cache
from turnwise.backends.tiny import tiny_model, tiny_tokenizer
from turnwise.errors import BudgetError, ConfigError, SpeakerError, TokensError

TOKENIZER = tiny_tokenizer(["which day ?", "friday ."] * 3, 280)
STOP_IDS = tuple(range(20, 40))


def causal(seed: int = 3) -> CausalModel:
    model = tiny_model(TOKENIZER, hidden_size=64, num_layers=2, seed=seed)
    # Sharper than at birth, so that a wrong cache changes what is drawn.
    for parameter in model.parameters():
        parameter.data.mul_(3.0)
    return CausalModel(model)


MODEL = causal()


def sampler(
    slots: int = 8, *, keeps_cache: bool = True, model: CausalModel = MODEL
) -> BatchedSampler:
    return BatchedSampler(model, slots=slots, keeps_cache=keeps_cache)


def request(ids: Sequence[int], seed: int = 1, session: str | None = None) -> SampleRequest:
    return SampleRequest(tuple(ids), seed, 12, STOP_IDS, 1.0, session)


async def play(on: BatchedSampler, number: int, turns: int = 4, pause: bool = False) -> list[int]:
    """A dialogue whose user answers with two or three tokens."""
    ids = [6 + number, 50, 51 + number % 3]
    for turn in range(turns):
        sample = await on.sample(request(ids, seed=number, session=f"dialogue-{number}"))
        if pause:
            await asyncio.sleep(0.001 * (number % 3))
        ids += [*sample.token_ids, 60 + turn, 70 + number % 5, 80][: None if turn % 2 else -1]
    on.release(f"dialogue-{number}")
    return ids


def dialogues(on: BatchedSampler, numbers: Sequence[int], pause: bool = False) -> list[list[int]]:
    async def together() -> list[list[int]]:
        return list(await asyncio.gather(*(play(on, number, pause=pause) for number in numbers)))

    return asyncio.run(together())


def alone(on: BatchedSampler, wanted: SampleRequest) -> Sample:
    return asyncio.run(on.sample(wanted))


def assert_same(found: Sequence[object], expected: Sequence[Sample]) -> None:
    """The same tokens; log-probabilities up to the last bits, which depend on the batch."""
    for one, other in zip(found, expected, strict=True):
        assert isinstance(one, Sample)
        assert (one.token_ids, one.stop_reason) == (other.token_ids, other.stop_reason)
        assert one.logp == pytest.approx(other.logp, abs=1e-4)


def test_kept_caches_draw_what_full_recomputation_draws() -> None:
    expected = dialogues(sampler(keeps_cache=False), range(6))
    kept = sampler()
    assert kept.cache_kind == "slots"
    assert dialogues(kept, range(6)) == expected
    assert kept.evictions == 0


@pytest.mark.parametrize("slots", [1, 2, 3, 16])
def test_a_dialogue_is_the_same_whatever_the_slots_the_order_and_the_pauses(slots: int) -> None:
    one_by_one = [dialogues(sampler(1), [number])[0] for number in range(6)]
    assert dialogues(sampler(slots), range(6)) == one_by_one
    assert dialogues(sampler(slots), range(5, -1, -1), pause=True) == one_by_one[::-1]


def test_only_tokens_since_the_last_turn_are_read() -> None:
    read: list[int] = []
    kept = sampler()
    inner = kept._cache.logits

    def counting(
        slots: Sequence[int], tokens: Sequence[Sequence[int]], starts: Sequence[int]
    ) -> torch.Tensor:
        read.append(sum(len(ids) for ids in tokens))
        return inner(slots, tokens, starts)

    kept._cache.logits = counting  # type: ignore[method-assign]  # counts, then does the same
    dialogue = dialogues(kept, [0])[0]
    # Every token is read once: the last reply and the last token written never are.
    assert sum(read) == len(dialogue) - 3 - 1


def test_a_prompt_that_departs_from_the_cache_is_read_from_where_it_departs() -> None:
    on = sampler()
    first = alone(on, request([6, 7, 8, 9, 10], session="a"))
    other = request([6, 7, 41, 42], seed=5, session="a")
    assert_same([alone(on, other)], [alone(sampler(), other)])
    back = request([6, 7, 8, 9, 10], session="a")
    # The second time the prompt is wholly cached, and its last token is read again.
    assert_same([alone(on, back), alone(on, back)], [first, first])


def test_idle_dialogues_give_way_and_are_read_again_later() -> None:
    on = sampler(slots=2)
    conversations = [[6, 7 + number] for number in range(5)]
    for turn in range(3):
        for number, ids in enumerate(conversations):
            wanted = request(ids, seed=number, session=f"d{number}")
            sample = alone(on, wanted)
            assert sample.token_ids == alone(sampler(), wanted).token_ids
            ids += [*sample.token_ids, 50 + turn]
    assert on.evictions > 0


def test_requests_without_session_leave_nothing_behind() -> None:
    on = sampler(slots=1)
    assert_same([alone(on, request([6, 7]))], [alone(on, request([6, 7]))])
    assert on.evictions == 0


def test_messages_that_end_while_others_wait_to_be_read_leave_their_slots(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Prompts are read some at a time. One that ends with its first token frees its slot, and the
    # last dialogue moves there, which was given a slot and is not read yet.
    wanted = [SampleRequest((6 + i, 50, 51), i, 1, STOP_IDS) for i in range(6)]
    expected = [alone(sampler(), one) for one in wanted]
    monkeypatch.setattr("turnwise.backends.sampler.PREFILL_TOKENS", 6)
    on = sampler()

    async def together() -> list[Sample]:
        return list(await asyncio.gather(*(on.sample(one) for one in wanted)))

    found = asyncio.run(together())
    assert [one.token_ids for one in found] == [one.token_ids for one in expected]


def test_a_session_may_be_released_while_it_writes() -> None:
    on = sampler(slots=1)

    async def leave() -> Sample:
        task = asyncio.ensure_future(on.sample(request([6, 7], session="a")))
        for _ in range(5):  # then it is in the middle of its message
            await asyncio.sleep(0)
        assert not task.done()
        on.release("a")
        return await task

    assert_same([asyncio.run(leave())], [alone(on, request([6, 7]))])
    assert on.evictions == 0


def test_the_stop_token_is_kept_and_ends_the_message() -> None:
    for number in range(20):
        sample = alone(sampler(), request([6, 7, 8], seed=number))
        ended = sample.token_ids[-1] in STOP_IDS
        assert sample.stop_reason == ("stop" if ended else "length")
        assert ended or len(sample.token_ids) == 12
        assert not any(token in STOP_IDS for token in sample.token_ids[:-1])
        assert len(sample.logp) == len(sample.token_ids)


def test_users_are_awaited_while_others_decode() -> None:
    events: list[str] = []
    on = sampler()

    async def slow_user() -> None:
        await on.sample(request([6, 7], seed=1, session="a"))
        for _ in range(3):
            await asyncio.sleep(0)
            events.append("user")

    async def writer() -> None:
        for seed in range(4):
            await on.sample(SampleRequest((8, 9), seed, 12, (), 1.0))
        events.append("written")

    async def both() -> None:
        await asyncio.gather(slow_user(), writer())

    asyncio.run(both())
    assert events == ["user", "user", "user", "written"]


class Broken(torch.nn.Module):
    """A decoder that fails until it is repaired."""

    def __init__(self, inner: torch.nn.Module, passes: int) -> None:
        super().__init__()
        self.inner, self.passes = inner, passes

    def forward(self, **inputs: object) -> object:
        self.passes -= 1
        if self.passes == 0:
            raise RuntimeError("the device is gone")
        return self.inner(**inputs)


@pytest.mark.parametrize("passes", [1, 3])
def test_a_failing_model_reaches_every_caller_at_once_and_the_sampler_goes_on(passes: int) -> None:
    model = causal()
    model.decoder = Broken(model.decoder, passes)
    on = sampler(slots=2, model=model)
    wanted = [request([6, 7, 8 + i], seed=i, session=f"s{i}") for i in range(5)]

    async def ask() -> list[Sample | BaseException]:
        asked = (on.sample(each) for each in wanted)
        return await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), timeout=20)

    failures = [answer for answer in asyncio.run(ask()) if isinstance(answer, BaseException)]
    assert failures
    for failure in failures:
        assert isinstance(failure, SpeakerError)
        assert "RuntimeError: the device is gone" in str(failure)
        assert isinstance(failure.__cause__, RuntimeError)
    assert_same(asyncio.run(ask()), [alone(sampler(), each) for each in wanted])


def test_a_caller_that_gives_up_does_not_stop_the_others() -> None:
    on = sampler(slots=2)
    wanted = [request([6, 7, 8 + i], seed=i, session=f"s{i}") for i in range(4)]

    async def impatient() -> list[Sample]:
        tasks = [asyncio.ensure_future(on.sample(each)) for each in wanted]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[3].cancel()
        return list(await asyncio.gather(*tasks[1:3]))

    assert_same(asyncio.run(impatient()), [alone(sampler(), each) for each in wanted[1:3]])
    assert_same([alone(on, wanted[0])], [alone(sampler(), wanted[0])])


def test_a_loop_that_ends_in_the_middle_leaves_a_usable_sampler() -> None:
    on = sampler(slots=1)

    async def leave_early() -> None:
        asyncio.ensure_future(on.sample(request([6, 7], session="a"))).add_done_callback(
            lambda _: None
        )
        for _ in range(3):
            await asyncio.sleep(0)

    asyncio.run(leave_early())
    assert_same([alone(on, request([6, 7]))], [alone(sampler(), request([6, 7]))])


@pytest.mark.parametrize(
    ("wanted", "error", "message"),
    [
        (SampleRequest((), 1, 5, ()), TokensError, "empty prompt"),
        (SampleRequest((6,), 1, 0, ()), ConfigError, "max_new_tokens of 1 or more"),
        (SampleRequest((6,), 1, 5, (), -1.0), ConfigError, "temperature of 0 or more"),
        (SampleRequest((6,) * 4095, 1, 5, ()), BudgetError, "4096 positions"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(
    wanted: SampleRequest, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        alone(sampler(), wanted)


def test_a_sampler_needs_a_slot() -> None:
    with pytest.raises(ConfigError, match="at least one slot"):
        sampler(slots=0)


def test_the_tiny_model_keeps_a_plain_cache() -> None:
    assert keeps_plain_cache(MODEL)
