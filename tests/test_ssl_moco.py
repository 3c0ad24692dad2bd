"""MoCo against its definition: momentum, queue, InfoNCE, shuffled batch norm."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lookalike.errors import InputError
from lookalike.ssl.encoders import Encoder, EncoderConfig
from lookalike.ssl.layers import SubBatchNorm2d
from lookalike.ssl.moco import MoCo


class TinyEncoder(Encoder):
    """One convolution and one batch norm in place of a ResNet, so that hundreds of steps take a second."""

    def __init__(self, projection: int = 8, width: int = 16) -> None:
        nn.Module.__init__(self)
        self.config = EncoderConfig(projection=projection)
        self.dimensions = width
        self.backbone = nn.Sequential(
            nn.Conv2d(3, width, 3, bias=False), SubBatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projection))
        self.untrained_half = None


def tiny(K: int, B: int = 8, **options: float) -> tuple[MoCo, Tensor, Tensor]:
    torch.manual_seed(0)
    moco = MoCo(TinyEncoder(), K=K, **options)  # type: ignore[arg-type]
    return moco, torch.randn(B, 3, 8, 8), torch.randn(B, 3, 8, 8)


def test_momentum_update_is_equation_2() -> None:
    moco, *_ = tiny(K=16, m=0.75)
    start = [k.clone() for k in moco.encoder_k.parameters()]
    with torch.no_grad():
        for q in moco.encoder_q.parameters():
            q.add_(torch.randn_like(q))
    moco._momentum_update_key_encoder()
    for before, q, k in zip(start, moco.encoder_q.parameters(), moco.encoder_k.parameters(), strict=True):
        torch.testing.assert_close(k, 0.75 * before + 0.25 * q)


def test_key_encoder_starts_equal_and_takes_no_gradient() -> None:
    moco, im_q, im_k = tiny(K=16)
    for q, k in zip(moco.encoder_q.parameters(), moco.encoder_k.parameters(), strict=True):
        assert torch.equal(q, k)
    moco(im_q, im_k, step=0).loss.backward()
    assert all(q.grad is not None for q in moco.encoder_q.parameters())
    assert all(k.grad is None for k in moco.encoder_k.parameters())


@given(K=st.integers(1, 12), batches=st.lists(st.integers(1, 5), max_size=12))
@settings(deadline=None, max_examples=100)
def test_queue_holds_the_newest_keys_first_in_first_out(K: int, batches: list[int]) -> None:
    """Against a plain list, with batches that do not divide K, so that writing goes round the end."""
    moco = MoCo(TinyEncoder(projection=1), K=K)
    slots = [float(v) for v in moco.queue[0]]
    place, number = 0, 100
    for B in batches:
        keys = torch.arange(number, number + B).float()[:, None]
        number += B
        if B > K:
            with pytest.raises(InputError, match="at least one batch"):
                moco._dequeue_and_enqueue(keys)
            continue
        moco._dequeue_and_enqueue(keys)
        for key in keys[:, 0].tolist():  # the oldest slot is overwritten, one key at a time
            slots[place] = key
            place = (place + 1) % K
        assert moco.queue[0].tolist() == slots
        assert int(moco.queue_ptr) == place


def test_queue_starts_as_unit_vectors_drawn_from_the_seed() -> None:
    one, two, other = (MoCo(TinyEncoder(), K=10, seed=seed) for seed in (1, 1, 2))
    torch.testing.assert_close(one.queue.norm(dim=0), torch.ones(10))
    assert torch.equal(one.queue, two.queue)
    assert not torch.equal(one.queue, other.queue)


def test_info_nce_is_its_definition() -> None:
    """−log exp(q·k₊/T) / Σ exp(q·k/T), in plain loops, with the queue as it was before this step's keys."""
    moco, im_q, im_k = tiny(K=12, T=0.3, m=0.9)
    queue = moco.queue.clone()
    contrast = moco(im_q, im_k, step=5)
    with torch.no_grad():
        moco.encoder_q.load_state_dict(moco.encoder_q.state_dict())
        _, q = moco.encoder_q(im_q)
    keys = moco.queue[:, :8].T  # the first batch of keys went to columns 0 to 7, in the queries' order
    total = 0.0
    for i in range(8):
        positive = math.exp(sum(float(a * b) for a, b in zip(q[i], keys[i], strict=True)) / 0.3)
        negatives = 0.0
        for j in range(12):
            negatives += math.exp(sum(float(a * b) for a, b in zip(q[i], queue[:, j], strict=True)) / 0.3)
        total -= math.log(positive / (positive + negatives))
        assert float(contrast.logits[i, 0]) == pytest.approx(math.log(positive), abs=1e-5)
    assert float(contrast.loss.detach()) == pytest.approx(total / 8, abs=1e-5)


def test_keys_are_encoded_in_another_order_each_step_and_put_back() -> None:
    moco, _, im_k = tiny(K=16, B=16, sub_batches=4)
    seen: list[Tensor] = []
    moco.encoder_k.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    for step in (0, 1, 1):
        moco._keys(im_k, len(im_k), step)
    orders = [[int((image == im_k).flatten(1).all(dim=1).nonzero()) for image in batch] for batch in seen]
    assert all(sorted(order) == list(range(16)) for order in orders)
    assert orders[0] != orders[1] == orders[2]
    assert orders[0] != list(range(16))
    moco.eval()  # without batch statistics the order cannot matter
    torch.testing.assert_close(moco._keys(im_k, len(im_k), 7), moco.encoder_k(im_k)[1])


def test_a_permuted_key_is_normalized_by_other_statistics_than_its_query() -> None:
    """With one encoder for both and im_q = im_k, unshuffled keys equal the queries; shuffled ones must not."""
    moco, im_q, _ = tiny(K=16, B=16, sub_batches=4, m=0.0)
    im_q = im_q + torch.arange(16)[:, None, None, None]  # parts of the batch differ in brightness
    _, q = moco.encoder_q(im_q)
    torch.testing.assert_close(moco.encoder_k(im_q)[1], q)
    assert (moco._keys(im_q, len(im_q), step=0) - q).abs().max() > 1e-2


def right_answers(m: float, lr: float, shared_noise: bool = False) -> tuple[int, int, int]:
    """Train on one flat picture plus noise, the views' own or shared; how often the last 200 steps' queries

    chose their own key among the 1 + K of the loss, then among the batch's keys only, then how many queries.
    """
    moco, *_ = tiny(K=127, B=32, T=0.2, m=m, sub_batches=4)
    optimizer = torch.optim.SGD(moco.encoder_q.parameters(), lr=lr, momentum=0.9)
    noise = torch.Generator().manual_seed(1)
    of_all, of_batch, asked = 0, 0, 0
    for step in range(300):
        im_q, im_k = (0.5 + torch.randn(32, 3, 8, 8, generator=noise) for _ in range(2))
        place = int(moco.queue_ptr)
        contrast = moco(im_q, im_q if shared_noise else im_k, step)
        optimizer.zero_grad()
        contrast.loss.backward()
        optimizer.step()
        if step >= 100:
            keys = moco.queue[:, (place + torch.arange(32)) % 127]  # (D, B)
            of_all += int((contrast.logits.argmax(dim=1) == 0).sum())
            of_batch += int(((contrast.projection @ keys).argmax(dim=1) == torch.arange(32)).sum())
            asked += 32
    print(
        f"{of_all} of {asked} among all, guessing {asked / 128:.0f}; {of_batch} in the batch, guessing {asked / 32:.0f}"
    )
    return of_all, of_batch, asked


def test_constant_images_plus_noise_stay_at_chance() -> None:
    """Views of one flat picture with independent noise share nothing, so only a leak could beat guessing.

    6,400 answers with K = 127: 50 right on average, standard deviation 7; above 85 is 5 of them, odds below 1e-5.
    Slowly changing keys are needed here: a key encoder that moves makes the newest keys differ from the queue's
    old ones, which tells the positive apart without any leak. Among the batch's own keys, all of one age, 200 are
    right on average, standard deviation 14, however fast the key encoder moves. Views that do share their noise
    are told apart, so the training can learn.
    """
    of_all, of_batch, _ = right_answers(m=0.999, lr=0.01)
    assert of_all <= 85
    assert of_batch <= 270
    _, of_batch, _ = right_answers(m=0.99, lr=0.03)
    assert of_batch <= 270
    of_all, _, asked = right_answers(m=0.999, lr=0.01, shared_noise=True)
    assert of_all > 5 * asked / 128


@pytest.mark.parametrize("options", [{"K": 0}, {"K": 4, "m": 1.0}, {"K": 4, "T": 0.0}, {"K": 4, "sub_batches": 0}])
def test_impossible_numbers_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="MoCo needs"):
        MoCo(TinyEncoder(), **options)  # type: ignore[arg-type]
