"""Two Q-functions, each fitted to one half of the customers and calibrated on the other half.

Whatever is reported of a customer comes from the one that did not train on that customer.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from turnwise.backends.protocol import Backend, Sampler
from turnwise.errors import CheckpointError, LogsError, TemplateError
from turnwise.iteration.config import QConfig
from turnwise.iteration.episodes import Episode, check_disjoint, check_outcomes
from turnwise.iteration.fqe import NextReplies, next_replies
from turnwise.iteration.q_choices import MIDDLE_N, HeadName, chosen_head, chosen_targets, q_network
from turnwise.iteration.q_fold import FoldFit, mc_targets
from turnwise.iteration.q_train import Fitting, examples
from turnwise.iteration.q_values import FittedQ
from turnwise.qvalues.calibration import LinearMap
from turnwise.tokens import ChatFormat
from turnwise.training.observer import Observer, Silent

FACTS = "cross_fit.json"
_NAMES = "ab"  # of the folds
_SHAPE = ("loss", "num_heads", "num_bins", "bin_sigmas", "return_low", "return_high")


@dataclass(frozen=True)
class CrossFit:
    """A, which is optimised, and B, which only watches. A was fitted to fold 0, B to fold 1."""

    a: FittedQ
    b: FittedQ
    facts: Mapping[str, object]  # how they were fitted, as JSON

    @property
    def slopes(self) -> tuple[float, ...]:
        """a of each Q's map; one that is not above 0 turns the order of replies around."""
        return self.a.q_map.a, self.b.q_map.a

    def save(self, folder: Path) -> None:
        """Weights and maps into a folder that exists."""
        for name, q in zip(_NAMES, (self.a, self.b), strict=True):
            q.network.learner.save(folder / name)
        maps = {
            name: {"q": [q.q_map.a, q.q_map.b], "v": [q.v_map.a, q.v_map.b]}
            for name, q in zip(_NAMES, (self.a, self.b), strict=True)
        }
        text = json.dumps({**self.facts, "maps": maps}, indent=1, allow_nan=False)
        (folder / FACTS).write_text(text + "\n", encoding="utf-8")


def fit_q(
    backend: Backend,
    chat: ChatFormat,
    episodes: Sequence[Episode],
    config: QConfig,
    *,
    discount: float,
    seed: int,
    round: int = 0,
    previous: Path | None = None,
    sampler: Sampler | None = None,
    max_turn_tokens: int = 48,
    observer: Observer | None = None,
) -> CrossFit:
    """Fits both Q-functions and calibrates each on the other one's customers.

    episodes: of this round and, where they are pooled, of earlier ones. previous: the folder of the
    last round's fit, whose weights are the start. sampler: of the policy whose Q is wanted, with
    max_turn_tokens for a reply; None: no fitted Q evaluation. Adds the roles "fit_a" and "fit_b" to
    the backend. All chance is keyed by the seed: the same arguments give the same numbers.
    Raises OneOutcomeError where nothing tells replies apart; LogsError for a fold without targets
    or a customer in both folds; OutcomeError for a target outside the return range; CapabilityError
    for targets without a sampler, or a head that the backend has not.
    """
    job = _Job(
        backend, chat, _pooled(episodes, config, round), config, discount, seed, round,
        previous, sampler, max_turn_tokens, observer or Silent(),
    )  # fmt: skip
    return job.run()


def load_cross_fit(backend: Backend, chat: ChatFormat, config: QConfig, folder: Path) -> CrossFit:
    """What `CrossFit.save` wrote, under the roles "q_a" and "q_b".

    Raises CheckpointError for a missing or cut file or other settings of the head, TemplateError
    if the chat template is another one: Q would read other replies than it was fitted to.
    """
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"expected a fitted Q-function in {folder}, found {error}; fit it again"
        ) from error
    if facts["template_sha"] != template_sha(chat):
        raise TemplateError(
            f"the Q-function in {folder} was fitted with another chat template; load the model "
            "that it was fitted on, or fit it again"
        )
    differing = [key for key in _SHAPE if facts["q"][key] != config.model_dump()[key]]
    if differing:
        raise CheckpointError(
            f"the Q-function in {folder} was fitted with another q.{differing[0]}: expected "
            f"{config.model_dump()[differing[0]]!r}, found {facts['q'][differing[0]]!r}; use the "
            "settings it was fitted with"
        )
    maps, found = facts.pop("maps"), list[FittedQ]()
    for name in _NAMES:
        network = q_network(backend, config, facts["head"], f"q_{name}")
        network.learner.start_from(folder / name)
        q = FittedQ(network, config.return_low, config.return_high)
        q_map, v_map = LinearMap(*maps[name]["q"]), LinearMap(*maps[name]["v"])
        found.append(replace(q, q_map=q_map, v_map=v_map))
    a, b = found
    return CrossFit(a, b, facts)


def template_sha(chat: ChatFormat) -> str:
    """Of the chat template's text."""
    return hashlib.sha256(str(chat.tokenizer.chat_template).encode()).hexdigest()


@dataclass(frozen=True)
class _Job:
    """What both folds share."""

    backend: Backend
    chat: ChatFormat
    episodes: Sequence[Episode]
    config: QConfig
    discount: float
    seed: int
    round: int
    previous: Path | None
    sampler: Sampler | None
    max_turn_tokens: int
    observer: Observer

    def run(self) -> CrossFit:
        check_outcomes(self.episodes)
        folds = [[one for one in self.episodes if one.fold == f] for f in range(len(_NAMES))]
        customers = [[one.customer for one in fold] for fold in folds]
        check_disjoint(customers[0], customers[1], ("fold A", "fold B"))
        head = chosen_head(self.backend, self.config, self.observer)
        has_sampler = self.sampler is not None
        kind = chosen_targets(self.episodes, self.config, has_sampler, self.observer)
        following = self._following() if kind == "fqe" else None
        fits = [self._fold(f, fold, head, following) for f, fold in enumerate(folds)]
        for fit in fits:
            fit.run()
        facts: dict[str, object] = {
            "head": head,
            "targets": kind,
            "discount": self.discount,
            "template_sha": template_sha(self.chat),
            "q": self.config.model_dump(),
            "folds": [fit.facts for fit in fits],
        }
        one, other = fits
        return CrossFit(one.calibrated_on(other), other.calibrated_on(one), facts)

    def _following(self) -> NextReplies:
        assert self.sampler is not None
        self.observer.message("fitted Q evaluation: the policy is asked at every next state")
        return next_replies(
            self.episodes,
            self.sampler,
            number=self.config.fqe_samples,
            stop_id=self.chat.stop_id,
            max_tokens=self.max_turn_tokens,
            key=("next reply", self.seed, self.round),
        )

    def _fold(
        self, fold: int, episodes: Sequence[Episode], head: HeadName, following: NextReplies | None
    ) -> FoldFit:
        config, name = self.config, _NAMES[fold]
        returns = examples(episodes, mc_targets(episodes), config)
        if not episodes or (following is None and returns.num_steps == 0):
            raise LogsError(
                f"fold {name.upper()}: expected decision steps with a return of the policy, found "
                f"none in {len(episodes)} rows; collect conversations of more customers"
            )
        y_N = returns.y_BK[returns.is_known_BK]
        y_N = y_N if len(y_N) else MIDDLE_N
        seed = self.seed + fold
        network = q_network(self.backend, config, head, f"fit_{name}", y_N=y_N, seed=seed)
        if self.previous is not None and config.start == "previous":
            network.learner.start_from(self.previous / name)
        # Old returns are of an older policy's Q; targets under this policy do not age.
        age_weight = config.age_weight if following is None else 1.0
        fitting = Fitting(config, fold, self.seed, age_weight, self.round, self.observer)
        q = FittedQ(network, config.return_low, config.return_high)
        return FoldFit(q, fitting, episodes, following, self.discount)


def _pooled(episodes: Sequence[Episode], config: QConfig, round: int) -> list[Episode]:
    """The rows that count, in an order of their own: the one they came in changes nothing."""
    kept = [one for one in episodes if config.pool == "pooled" or one.round == round]
    return sorted(kept, key=lambda one: (one.round, one.conversation_id, one.turn_index))
