"""What every reader must do: O numbers after each token, of the row up to it and nothing behind.

The backends are those of `test_conformance`; what a critic shares with readers is in `test_values`.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.backends.test_conformance import KINDS, Kind, batch_of, local, train
from turnwise.backends import AdapterSpec, Reader
from turnwise.errors import ConfigError, TrainingError

START = (0.5, -1.25, 0.0)


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


def reader_of(kind: Kind, *, start: tuple[float, ...] = START, seed: int = 0) -> Reader:
    return kind.make().create_reader("q", replace(kind.spec, seed=seed), start=start)


def fit(reader: Reader, steps: int = 3, seed: int = 0) -> Mapping[str, float]:
    """Towards the token's column, each output another share of it."""
    batch, out = batch_of(seed=seed), dict[str, float]()
    share_O = torch.tensor([1.0, 0.5, 0.0])

    def loss(output_BTO: Tensor) -> Tensor:
        target_T = torch.arange(output_BTO.shape[1]) / 10
        return (output_BTO - target_T[:, None] * share_O).square().sum() / 100

    for _ in range(steps):
        out = dict(reader.forward_backward(batch, loss))
        reader.optim_step(0.02)
    return out


def test_a_new_reader_says_its_start_after_every_token_and_nothing_on_padding(kind: Kind) -> None:
    batch = batch_of()
    output_BTO = reader_of(kind).read(batch)
    exists_BT = torch.arange(batch.token_BT.shape[1]) < batch.length_B[:, None]
    assert output_BTO.dtype == torch.float32
    assert torch.equal(output_BTO, exists_BT[:, :, None] * torch.tensor(START))


def test_outputs_learn_apart(kind: Kind) -> None:
    reader = reader_of(kind)
    first, last = fit(reader, steps=1)["loss"], fit(reader, steps=30)["loss"]
    assert last < 0.5 * first
    output_BTO = reader.read(batch_of())
    assert output_BTO[:, 10, 0].mean() > output_BTO[:, 10, 2].mean() + 0.2


def test_an_output_sees_its_token_and_none_behind_it(kind: Kind) -> None:
    reader, batch = reader_of(kind), batch_of()
    fit(reader)
    before = reader.read(batch)
    other_BT = batch.token_BT.clone()
    other_BT[:, 4] = torch.where(other_BT[:, 4] == 9, 10, 9)
    after = reader.read(replace(batch, token_BT=other_BT))
    assert_close(after[:, :4], before[:, :4], atol=1e-6, rtol=1e-6)
    assert not torch.isclose(after[:, 4, :2], before[:, 4, :2]).any()


def test_padding_and_row_order_change_no_output(kind: Kind) -> None:
    reader, batch = reader_of(kind), batch_of()
    fit(reader)
    plain, order = reader.read(batch), [3, 0, 4, 1, 2]
    turned = reader.read(batch.rows(order))
    assert_close(turned, plain[order][:, : turned.shape[1]], atol=1e-5, rtol=1e-5)


def test_splitting_a_batch_changes_no_gradient_of_a_reader(kind: Kind) -> None:
    found = []
    for split in ([[0, 1, 2, 3, 4, 5]], [[5], [4, 2], [3, 1, 0]]):
        reader, batch = reader_of(kind), batch_of(6)
        fit(reader)
        for rows in split:
            reader.forward_backward(batch.rows(rows), lambda o_BTO: (o_BTO - 1).square().sum() / 48)
        found.append((reader.optim_step(0.01).grad_norm, reader.read(batch)))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-4)
    assert_close(found[1][1], found[0][1], atol=1e-4, rtol=1e-4)


def test_readers_and_learners_of_one_backend_do_not_meet(kind: Kind) -> None:
    backend = kind.make()
    one = backend.create_reader("q_a", kind.spec, start=START)
    two = backend.create_reader("q_b", kind.spec, start=(1.0,))
    policy = backend.create("policy", kind.spec)
    fit(one)
    before = one.read(batch_of())
    two.forward_backward(batch_of(), torch.sum)
    two.optim_step(0.02)
    train(policy)
    assert torch.equal(one.read(batch_of()), before)
    fresh = kind.make().reference().logp(batch_of())
    assert torch.equal(backend.reference().logp(batch_of()), fresh)


def test_a_saved_reader_goes_on_with_equal_numbers(kind: Kind, tmp_path: Path) -> None:
    reader = reader_of(kind)
    fit(reader, steps=2)
    reader.save(tmp_path / "saved")
    fit(reader, steps=2, seed=7)
    expected = reader.read(batch_of())
    for resumed in (reader, reader_of(kind, start=(0.0, 0.0, 0.0), seed=1)):
        resumed.load(tmp_path / "saved")
        fit(resumed, steps=2, seed=7)
        assert torch.equal(resumed.read(batch_of()), expected)


def test_a_reader_starts_from_another_ones_weights_with_a_fresh_optimizer(
    kind: Kind, tmp_path: Path
) -> None:
    reader = reader_of(kind)
    fit(reader, steps=4)
    reader.save(tmp_path / "saved")
    heir = reader_of(kind, seed=1)
    heir.start_from(tmp_path / "saved")
    assert torch.equal(heir.read(batch_of()), reader.read(batch_of()))
    fit(heir, steps=1, seed=7)
    fit(reader, steps=1, seed=7)
    assert not torch.equal(heir.read(batch_of()), reader.read(batch_of()))


def test_outputs_that_are_not_finite_are_named_and_not_learned_from(kind: Kind) -> None:
    reader = reader_of(kind)
    reader.forward_backward(batch_of(), torch.sum)
    reader.optim_step(float("nan"))
    with pytest.raises(TrainingError, match=r"q: expected finite values.* dialogue \d"):
        reader.read(batch_of())
    with pytest.raises(TrainingError, match="q: expected finite values"):
        reader.forward_backward(batch_of(), torch.sum)


def test_a_readers_role_is_taken_once() -> None:
    on = local()
    on.create_reader("q", AdapterSpec(), start=START)
    with pytest.raises(ConfigError, match="adapter 'q' already"):
        on.create_reader("q", AdapterSpec(), start=START)
