"""Who belongs to which half of the data, and how often each head of an ensemble sees whom.

All of it is a function of keys: no order, no earlier round and no generator has a say.
"""

import hashlib
import hmac
import math
from collections.abc import Iterable

from turnwise.users.chance import uniform

NUM_FOLDS = 2


def fold_of(customer: str, salt: str) -> int:
    """HMAC-SHA256(salt, customer) mod 2: the same in every round, whoever else is there."""
    digest = hmac.new(salt.encode(), customer.encode(), hashlib.sha256).digest()
    return digest[-1] % NUM_FOLDS


def early_stop_customers(customers: Iterable[str], share: float, *key: int | str) -> set[str]:
    """The customers with whom a fit is stopped early, as a share of all, at least one of them.

    Empty where the share is 0 or there is one customer, whom nobody can spare.
    """
    known = sorted(set(customers), key=lambda customer: uniform(customer, "early stop", *key))
    if share == 0 or len(known) < 2:
        return set()
    return set(known[: min(max(1, round(share * len(known))), len(known) - 1)])


def poisson_weight(customer: str, head: int, *key: int | str) -> int:
    """How often a head of an ensemble sees a customer: Poisson with mean 1."""
    left, count, term = uniform(customer, "head", head, *key), 0, math.exp(-1)
    while left >= term and count < 12:
        left -= term
        count += 1
        term /= count
    return count
