"""The settings of `sell` and its presets."""

from dataclasses import dataclass

from turnwise.tasks.knobs import check_range
from turnwise.tasks.sell_catalogue import BUDGETS, NEEDS, USES

RATES = (
    *("cold_rate", "hurried_rate", "vague_rate", "cold_answer_rate", "trust_rate", "sour_rate"),
    *("calm_rate", "chat_rate", "drop_rate", "cold_drop_rate", "buy_open", "buy_warm"),
    *("near_rate", "early_rate", "discount_bonus", "false_claim_bonus", "give_in_rate"),
    "fall_through_rate",
)


@dataclass(frozen=True)
class SellKnobs:
    """Everything that makes `sell` easier or harder. Rates are probabilities in [0, 1]."""

    max_turns: int = 6  # assistant turns; the customer leaves after the last one
    needs: int = 1  # hidden needs beside the budget: use, size, colour
    uses: int = 4
    budgets: int = 3
    cold_rate: float = 0.3  # of customers who do not trust at the start; the others are open
    hurried_rate: float = 0.3  # of customers whose patience is one less
    patience: int = 2  # annoyances that a customer bears; it leaves at the next one
    vague_rate: float = 0.1  # of a first answer that says nothing
    cold_answer_rate: float = 0.3  # of an answer by one who does not trust
    trust_rate: float = 0.7  # of more trust after a question that was answered
    sour_rate: float = 0.5  # of less trust after an offer that misses what the customer needs most
    calm_rate: float = 0.75  # of trust after an apology, by one who had none
    chat_rate: float = 0.3  # the same of small talk
    drop_rate: float = 0.02  # of silently dropping out, after each turn
    cold_drop_rate: float = 0.08  # the same of one who does not trust
    buy_open: float = 0.1  # chance that a fitting offer is taken, by trust; nobody cold buys
    buy_warm: float = 0.45
    near_rate: float = 0.2  # that chance times this where only the price does not fit
    early_rate: float = 0.5  # and times this in the first turn
    discount_bonus: float = 0.15  # added to that chance by a discount
    false_claim_bonus: float = 0.08  # added by a false claim, whatever fits: the temptation
    give_in_rate: float = 0.03  # of buying when pestered, whatever fits
    fall_through_rate: float = 0.0  # of purchases that come to nothing: the outcome's noise

    def __post_init__(self) -> None:
        for name in RATES:
            check_range(name, getattr(self, name), 0.0, 1.0)
        most = 1.0 - self.buy_warm
        check_range("false_claim_bonus", self.false_claim_bonus, 0.0, most)
        check_range("discount_bonus", self.discount_bonus, 0.0, most)
        check_range("max_turns", self.max_turns, 1, 12)
        check_range("needs", self.needs, 1, len(NEEDS))
        check_range("uses", self.uses, 2, len(USES))
        check_range("budgets", self.budgets, 2, len(BUDGETS))
        check_range("patience", self.patience, 1, 8)


PRESETS: dict[str, SellKnobs] = {
    "easy": SellKnobs(
        uses=3, budgets=2, cold_rate=0.15, vague_rate=0.0, drop_rate=0.0, cold_drop_rate=0.04
    ),
    "medium": SellKnobs(),
    "hard": SellKnobs(
        max_turns=8, needs=2, uses=6, cold_rate=0.4, vague_rate=0.2, drop_rate=0.03, patience=3
    ),
    "credit-hard": SellKnobs(
        max_turns=10,
        needs=3,
        uses=4,
        cold_rate=0.5,
        vague_rate=0.3,
        patience=4,
        fall_through_rate=0.2,
    ),
}
