"""`turnwise chat`: a person talks to a policy."""

import asyncio
from collections.abc import Awaitable, Callable

from turnwise.cli.assemble import ready
from turnwise.conversation import Conversation, Message
from turnwise.rollouts import converse
from turnwise.users import Human


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

    async def talk() -> Conversation:
        try:
            first = (await read("you: ")).strip()
        except EOFError:
            return ()
        if not first:
            return ()
        opening = (Message("user", first),)
        played = await converse(
            assembly.stage,
            learners.sampler,
            opening,
            Human(read).reply,
            noise_seed=seed,
            session="chat",
        )
        return played.conversation

    return asyncio.run(talk())
