"""What a model keeps for its backward pass is the same without data as with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from crlft_ray.model.load import load_model
from crlft_ray.model.shape import model_config
from crlft_ray.planning.residency import Rules, residency
from crlft_ray.planning.size import model_size
from tests.training.gradients import write_model

TOKENS = 96


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_activations(tied: bool, precision: str, tmp_path: Path) -> None:
    """With one conversation in the pack, so that nothing is cut apart and laid together."""
    folder = write_model(tmp_path, tied=tied)
    size = model_size(model_config(str(folder)), precision, TOKENS, TOKENS)
    model = load_model(str(folder), precision).train()
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        cu_seq_lens = torch.tensor([0, TOKENS], dtype=torch.int32)
        model.base_model(
            input_ids=torch.arange(TOKENS)[None], position_ids=torch.arange(TOKENS)[None], use_cache=False,
            cu_seq_lens_q=cu_seq_lens, cu_seq_lens_k=cu_seq_lens, max_length_q=TOKENS, max_length_k=TOKENS,
        )  # fmt: skip
    measured = sum(storage.nbytes() for storage in kept.values())
    assert sum(size.layer_bytes) + size.outer_bytes == pytest.approx(measured, rel=0.15)
    assert size.total == sum(parameter.numel() for parameter in model.parameters())
    used = [own for _, own in size.modules if own]
    assert used[0] == (0,), "the embedding is used first"
    assert used[-1] == ((0,) if tied else (len(size.parameters) - 1,)), "the output layer last"


MODULES = tuple((None if number in (0, 5) else number, (number,)) for number in range(6))
ORDER = tuple(range(6))
PARAMETERS = (100, 10, 10, 10, 10, 100)


def _rules(**changes: int) -> Rules:
    rules = {"prefetch_bucket": 0, "persistence": 0, "model_persistence": 10**9, "max_live": 10**9, "max_reuse": 10**9}
    return Rules(**{**rules, **changes})


def test_gathering() -> None:
    """Kept until the backward pass if that is near enough, and gathered again if not."""
    near = residency(PARAMETERS, MODULES, ORDER, _rules(), False)
    assert (near.gathered, near.peak) == (240, 240)
    far = residency(PARAMETERS, MODULES, ORDER, _rules(max_reuse=1), False)
    # Only what is used twice in a row, here the last one, is gathered once.
    assert (far.gathered, far.peak) == (2 * 240 - 100, 100)
    ahead = residency(PARAMETERS, MODULES, ORDER, _rules(max_reuse=1, prefetch_bucket=15), False)
    # The search for what to gather next passes over what is still there, which then stays.
    assert near.gathered < ahead.gathered < far.gathered
    assert far.peak < ahead.peak
    small = residency(PARAMETERS, MODULES, ORDER, _rules(persistence=10), False)
    assert (small.gathered, small.persistent) == (200, 40)


def test_a_checkpointed_layer_is_gathered_no_more_often() -> None:
    """It runs forward and backward in a row."""
    assert residency(PARAMETERS, MODULES, ORDER, _rules(max_reuse=1), True).gathered == 2 * 240 - 100
    layers = tuple((0 if number in (1, 2) else None, (number,)) for number in range(6))
    both = residency(PARAMETERS, layers, ORDER, _rules(max_reuse=1), True)
    assert both.gathered > 2 * 240 - 100, "a layer of two modules runs them all forward before it runs them back"
