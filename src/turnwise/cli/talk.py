"""`turnwise chat`: a person talks to a policy."""

import asyncio
from collections.abc import Awaitable, Callable

from turnwise.backends.protocol import Sample, SampleRequest
from turnwise.cli.assemble import ready
from turnwise.conversation import Conversation, Message
from turnwise.rollouts import AskPolicy, Played, dialogue
from turnwise.users import Human, Reply


def chat(
    run_or_model: str,
    *,
    read: Callable[[str], Awaitable[str]],
    task: str | None = None,
    seed: int = 0,
) -> Conversation:
    """A person talks to a run's newest policy, or to a model, until one of them says goodbye.

    read: gets the text to show (what the assistant said, and a prompt), returns the person's line;
    EOFError ends the dialogue. task: needed for a model that is not a run; sets the limits.
    Returns the conversation, empty if the person said nothing.
    """
    assembly, learners = ready(run_or_model, task, None)
    stage = assembly.stage

    async def talk() -> Conversation:
        try:
            first = (await read("you: ")).strip()
        except EOFError:
            return ()
        if not first:
            return ()
        speech = dialogue((Message("user", first),), stage.chat, stage.limits)
        human, ask = Human(read), next(speech)
        while True:
            answer: Sample | Reply
            if isinstance(ask, AskPolicy):
                answer = await learners.sampler.sample(
                    SampleRequest(
                        prompt_ids=ask.prompt_ids,
                        noise_seed=seed,
                        max_new_tokens=ask.max_new_tokens,
                        stop_ids=(stage.chat.stop_id,),
                        temperature=stage.temperature,
                        session="chat",
                    )
                )
            else:
                answer = await human.reply(ask.conversation)
            try:
                ask = speech.send(answer)
            except StopIteration as end:
                played: Played = end.value
                return played.conversation

    return asyncio.run(talk())
