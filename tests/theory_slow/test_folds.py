"""Two folds on the toy: the gate opens where replies matter, the other fold's Q stays honest."""

from functools import cache

import numpy as np
import pytest

from tests.theory.mdp import MDP, Array, gain, kl, reply_policy, tilt, token_policy, toy
from tests.theory_slow.sampled import Played, monte_carlo, play, prompts_of, returns
from turnwise.qvalues import (
    Gains,
    HeldOut,
    Limits,
    StopRules,
    gate,
    log_odds,
    mapped,
    split_maps,
    stop_reason,
)


def averaged(seed: int) -> MDP:
    """The toy whose replies win and go on alike; all that a reply does is name the next state."""
    mdp = MDP(seed, 1.0)
    mdp.win[:] = mdp.win.mean(1, keepdims=True)
    mdp.go[:] = mdp.go.mean(1, keepdims=True)
    return mdp


def one_fold(
    mdp: MDP, logpi: Array, fitted: Played, judged: Played, rng: np.random.Generator
) -> tuple[dict[str, Array], float]:
    """The steps of `judged` under a Q of `fitted`, calibrated in 5 splits; the smallest slope."""
    q, v = monte_carlo(mdp, fitted, logpi)
    kept = judged.is_step_BK
    state, action = judged.state_BK[kept], judged.action_BK[kept]
    turn, target = mdp.turn[state], returns(judged, mdp.gamma)[kept]
    who = np.broadcast_to(np.arange(len(kept))[:, None], kept.shape)[kept]
    shuffled = action.copy()
    for one in np.unique(turn):
        shuffled[turn == one] = rng.permutation(action[turn == one])
    y, at = returns(fitted, mdp.gamma), fitted.state_BK
    by_turn = [y[(at >= 0) & (mdp.turn[at] == one)].mean() for one in (1, 2, 3)]
    split, maps = split_maps(log_odds(q[state, action]), target, who.astype(str), loss="log")
    v_split, v_maps = split_maps(log_odds(v[state]), target, who.astype(str), loss="log")
    return {
        "target": target,
        "q": mapped(q[state, action], split, maps, loss="log"),
        "v": mapped(v[state], v_split, v_maps, loss="log"),
        "turn_mean": np.array(by_turn)[turn - 1],
        "shuffled": mapped(q[state, shuffled], split, maps, loss="log"),
        "who": who,
        "turn": turn - 1,
    }, min(one.a for one in maps)


def held_out(mdp: MDP, logpi: Array, count: int, rng: np.random.Generator) -> HeldOut:
    """Every step as the Q of the other fold sees it; each conversation is a customer's only one."""
    folds = [play(mdp, logpi, count // 2, rng) for _ in range(2)]
    parts = [one_fold(mdp, logpi, folds[1 - f], folds[f], rng) for f in (0, 1)]
    whole = {name: np.concatenate([x[name] for x, _ in parts]) for name in parts[0][0]}
    fold = np.repeat([0, 1], [len(x["turn"]) for x, _ in parts])
    who = np.array([f"{f}-{i}" for f, i in zip(fold, whole["who"], strict=True)])
    return HeldOut(
        target_N=whole["target"],
        q_N=whole["q"],
        v_N=whole["v"],
        turn_mean_N=whole["turn_mean"],
        shuffled_N=whole["shuffled"],
        customer_N=who,
        conversation_N=who,
        fold_N=fold,
        turn_N=whole["turn"].astype(np.int64),
        slopes=tuple(slope for _, slope in parts),
    )


def is_open(mdp: MDP, seed: int, conversations: int) -> bool:
    logpi, rng = reply_policy(token_policy(100 + seed)), np.random.default_rng(seed)
    return gate(held_out(mdp, logpi, conversations, rng), Limits()).is_open


@pytest.mark.parametrize("seed", range(5))
def test_the_gate_opens_where_replies_matter_and_stays_shut_where_they_do_not(seed: int) -> None:
    assert is_open(toy(seed, 1.0), seed, 4000)
    assert not is_open(averaged(seed), seed, 4000)


@cache
def gains_at_the_stop(conversations: int, seed: int) -> tuple[float, float, float]:
    """g_A, g_B and the true gain at the prompts when the stop rules end a run that follows Q_A."""
    mdp, logpi = toy(seed, 0.95), reply_policy(token_policy(100 + seed))
    rng = np.random.default_rng(seed)
    folds = [play(mdp, logpi, conversations // 2, rng) for _ in range(2)]
    (q_a, _), (q_b, _) = (monte_carlo(mdp, one, logpi) for one in folds)
    truth, prompts = mdp.q(logpi)[0], prompts_of(mdp, folds[0])
    checks = [Gains(0, 0.0, 0.0, 0.0, 0.0, 0.0)]
    rules = StopRules(patience=3, max_truncated=0.1, budget=5.0, logged_spread=0.0)
    for update, beta in enumerate(np.geomspace(2.0, 0.002, 40), 1):
        new = tilt(logpi, q_a, beta)
        g_a, g_b, true = (float(prompts @ gain(new, logpi, q)) for q in (q_a, q_b, truth))
        away = float(prompts @ kl(new, logpi))
        checks.append(Gains(10 * update, g_a, g_b, away, 0.0, 0.0))
        if stop_reason(checks, rules):
            break
    return g_a, g_b, true


@pytest.mark.parametrize("conversations", [200, 500])
def test_at_the_stop_the_other_folds_gain_is_nearer_to_the_truth(conversations: int) -> None:
    found = np.array([gains_at_the_stop(conversations, seed) for seed in range(30)])
    flattery, other = np.abs(found[:, :2] - found[:, 2:]).mean(0)
    assert other < flattery
    assert (found[:, 0] - found[:, 2]).mean() > 0
