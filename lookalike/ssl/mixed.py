"""What faster arithmetic needs: a loss scaled so that float16 holds its gradients, and encoders compiled by torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lookalike.errors import LookalikeError, unknown

COMPILER = "inductor"
PRECISIONS = ("float32", "bfloat16", "float16")


def computing_in(precision: str, device: torch.device) -> torch.autocast:
    """Products and convolutions in a precision of PRECISIONS; what is sensitive to it stays in float32."""
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    half = getattr(torch, precision)
    return torch.autocast(device.type, half, enabled=half != torch.float32)


class LossScaler:
    """Backward pass and optimizer step, of a scaled loss where gradients are float16 (Micikevicius et al. 2018).

    A step whose gradients overflow is left out and the scale halved; after 2,000 without one it is doubled.

    on    : whether to scale; else a plain step.
    state : what the next step depends on, scale and steps since the last overflow; empty where nothing is scaled.
    """

    def __init__(self, device: torch.device, *, on: bool) -> None:
        self._scaler = torch.amp.GradScaler(device.type, enabled=on)
        self.state: dict[str, Tensor] = {"loss_scale": torch.tensor([self._scaler.get_scale(), 0.0])} if on else {}

    def step(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Backward, and one step of the optimizer."""
        scaled: Tensor = self._scaler.scale(loss)
        torch.autograd.backward(scaled)
        self._scaler.step(optimizer)
        self._scaler.update()
        if self.state:
            kept = self._scaler.state_dict()
            self.state["loss_scale"].copy_(torch.tensor([kept["scale"], float(kept["_growth_tracker"])]))

    def restore(self) -> None:
        """Go on from `state`, whose tensors were filled with those of an earlier run."""
        if self.state:
            scale, since = self.state["loss_scale"].tolist()
            self._scaler.load_state_dict(self._scaler.state_dict() | {"scale": scale, "_growth_tracker": int(since)})


def compiled(*encoders: nn.Module) -> None:
    """Have torch compile encoders, in place, when they are first called; names and weights stay as they are."""
    for encoder in encoders:
        encoder.compile(backend=COMPILER)


@contextmanager
def said_shortly(compiling: bool) -> Iterator[None]:
    """A LookalikeError of one line where torch's compiler fails, such as without a C++ compiler."""
    if not compiling:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        told = str(getattr(error, "inner_exception", error)).strip() or type(error).__name__
        reason = told.splitlines()[0]
        raise LookalikeError(
            f"torch cannot compile this encoder here ({reason}); train without compile=true."
        ) from None
