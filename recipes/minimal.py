"""A tiny model learns `clarify` with the library's functions and without its loop.

    python recipes/minimal.py [STEPS]

Everything a step of training is, in the order in which it happens: play, compare siblings, place
the advantage on the tokens that the policy wrote, move the policy, publish it. Trajectory credit is
used, for which no reward model is needed; recipes/clarify_itpo.toml trains with turn credit.
"""

import asyncio
import sys

import torch

from turnwise.advantages import leave_one_out, same_for_all_turns, scale_by_rms
from turnwise.arrays import spread_to_tokens, turn_length
from turnwise.backends import AdapterSpec
from turnwise.backends.local import LocalBackend
from turnwise.backends.tiny import tiny_model, tiny_tokenizer
from turnwise.losses import ClipRange, loss_divisor, loss_weights, policy_objective
from turnwise.rollouts import Limits, Plan, Stage, play
from turnwise.tasks import make
from turnwise.tokens import ChatFormat, turn_batch
from turnwise.training.observer import Silent
from turnwise.training.prm import PassLimits
from turnwise.training.supervised import imitate, supervised_batch

PROBLEMS, SIBLINGS = 8, 8

# A model that speaks the task's language and plays it badly.
task = make("clarify", "medium")
shown = [task.demonstration(task.scenario(10**13 + i), i) for i in range(2000)]
tokenizer = tiny_tokenizer([message.content for talk in shown for message in talk])
backend = LocalBackend(tiny_model(tokenizer, hidden_size=128), tokenizer)
chat = ChatFormat(tokenizer)
policy = backend.create("policy", AdapterSpec(full_weights=True, beta2=0.98))
imitate(
    policy,
    supervised_batch(shown, chat, max_tokens=256),
    epochs=3,
    batch_size=16,
    learning_rate=3e-3,
    seed=0,
    limits=PassLimits(),
    observer=Silent(),
)

stage = Stage(task, chat, Limits(task.max_turns, max_turn_tokens=16, max_conversation_tokens=256))
for step in range(int(sys.argv[1]) if len(sys.argv) > 1 else 20):
    plans = [
        Plan(
            scenario_seed=step * PROBLEMS + p, group_id=str(p), seed=(step * PROBLEMS + p) * 100 + g
        )
        for p in range(PROBLEMS)
        for g in range(SIBLINGS)
    ]
    trajectories, _ = asyncio.run(play(stage, policy.publish(), plans))
    batch = turn_batch(trajectories)
    turn_of_token_BT = batch.turn_of_token_BT

    outcome_B = torch.tensor([float(t.outcome.score or 0.0) for t in trajectories])
    group_B = torch.tensor([int(t.group_id) for t in trajectories])
    better_B = leave_one_out(outcome_B, group_B, torch.ones_like(group_B, dtype=torch.bool))
    advantage_BK = same_for_all_turns(better_B, turn_length(turn_of_token_BT) > 0)
    advantage_BT = spread_to_tokens(advantage_BK, turn_of_token_BT)
    advantage_BT = scale_by_rms(advantage_BT, batch.written_BT)

    divisor = loss_divisor(batch.written_BT.sum(dim=1), kind="tokens")
    weight_BT = loss_weights(batch.written_BT, kind="tokens", divisor=divisor)
    policy.forward_backward(
        batch,
        lambda logp_BT, b=batch, a=advantage_BT, w=weight_BT: policy_objective(
            logp_BT, b.logp_behaviour_BT, a, w, clip=ClipRange(), dual_clip=3.0
        ),
    )
    policy.optim_step(3e-4)
    print(f"step {step + 1}: mean outcome {outcome_B.mean():.3f}")
