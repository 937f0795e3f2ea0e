"""What several credits of the same turns say together: agreement, against the truth, by turn."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from turnwise.credit import CreditAgreement, credit_agreement
from turnwise.records import Record

TRUTHS: Mapping[str, str] = {"truth/oracle": "exact credit", "truth/gain": "exact gain"}
# A credit that is told of some turns only: the measure that says of which.
_MEASURED: Mapping[str, str] = {"infopo": "infopo/gain"}


@dataclass(frozen=True)
class TurnMean:
    """Mean credit of the k-th turn of all dialogues that have one."""

    mean: float
    count: int  # turns that the method credited, 1 or more


@dataclass(frozen=True)
class CreditStudy:
    """Several credits of the same turns."""

    methods: Sequence[str]
    num_dialogues: int
    num_turns: int
    agreement: Mapping[tuple[str, str], CreditAgreement]  # of each pair of methods, both ways
    truth: Mapping[str, Mapping[str, CreditAgreement]]  # exact credit or gain -> method; may be {}
    by_turn: Mapping[str, Sequence[TurnMean | None]]  # None: no k-th turn has a credit

    def as_dict(self) -> dict[str, object]:
        """The study as plain objects; numbers that are not known are NaN."""
        return {
            "methods": list(self.methods),
            "num_dialogues": self.num_dialogues,
            "num_turns": self.num_turns,
            "agreement": {
                first: {
                    second: _numbers(self.agreement[first, second])
                    for second in self.methods
                    if first != second
                }
                for first in self.methods
            },
            "truth": {
                title.replace(" ", "_"): {
                    name: _numbers(found) for name, found in of_method.items()
                }
                for title, of_method in self.truth.items()
            },
            "mean_credit_by_turn": {
                name: [None if one is None else vars(one) for one in means]
                for name, means in self.by_turn.items()
            },
        }


def _numbers(found: CreditAgreement) -> dict[str, float]:
    return {
        "within_dialogues": found.within,
        "num_dialogues": found.num_dialogues,
        "overall": found.overall,
    }


def credit_study(records: Sequence[Record], methods: Sequence[str]) -> CreditStudy:
    """How far the methods agree on the turns of the records, which all have credit of each."""
    is_turn_BK = _is_turn(records)
    credit_BK = {
        name: _array([credit_of(one, name) for one in records], is_turn_BK) for name in methods
    }
    agreement: dict[tuple[str, str], CreditAgreement] = {}
    for first, second in combinations(methods, 2):
        found = credit_agreement(credit_BK[first], credit_BK[second], is_turn_BK)
        agreement[first, second] = agreement[second, first] = found
    truth = {}
    for key, title in TRUTHS.items():
        if all(key in one.measures for one in records):
            exact_BK = _array([one.measures[key] for one in records], is_turn_BK)
            truth[title] = {
                name: credit_agreement(credit_BK[name], exact_BK, is_turn_BK) for name in methods
            }
    return CreditStudy(
        methods,
        num_dialogues=len(records),
        num_turns=int(is_turn_BK.sum()),
        agreement=agreement,
        truth=truth,
        by_turn={name: _by_turn(credit_BK[name], is_turn_BK) for name in methods},
    )


def credit_of(record: Record, method: str) -> tuple[float | None, ...]:
    """The method's credit of each turn; None where it has none to give."""
    measured = record.measures.get(_MEASURED.get(method, ""))
    return record.credit[method] if measured is None else measured


def by_dispute(study: CreditStudy) -> list[int]:
    """Numbers of the dialogues in which two methods order the turns, the most disputed first.

    A dispute is a low mean over pairs of methods of the correlation within the dialogue.
    """
    accord: dict[int, float] = {}
    for b in range(study.num_dialogues):
        known = [
            pair.by_dialogue[b]
            for pair in study.agreement.values()
            if not math.isnan(pair.by_dialogue[b])
        ]
        if known:
            accord[b] = math.fsum(known) / len(known)
    return sorted(accord, key=lambda b: accord[b])


def _is_turn(records: Sequence[Record]) -> Tensor:
    """bool BK: the policy wrote something in it."""
    K = max((len(one.trajectory.turns) for one in records), default=0)
    is_turn_BK = torch.zeros(len(records), K, dtype=torch.bool)
    for b, record in enumerate(records):
        is_turn_BK[b, record.trajectory.written_turns] = True
    return is_turn_BK


def _array(rows: Sequence[Sequence[float | None]], is_turn_BK: Tensor) -> Tensor:
    x_BK = torch.full(is_turn_BK.shape, math.nan, dtype=torch.float64)
    for b, row in enumerate(rows):
        x_BK[b, : len(row)] = torch.from_numpy(np.array(row, dtype=np.float64))  # None: NaN
    return x_BK


def _by_turn(credit_BK: Tensor, is_turn_BK: Tensor) -> list[TurnMean | None]:
    known_BK = is_turn_BK & credit_BK.isfinite()
    return [
        TurnMean(float(credit_N[known_N].mean()), int(known_N.sum()))
        if bool(known_N.any())
        else None
        for credit_N, known_N in zip(credit_BK.T, known_BK.T, strict=True)
    ]
