"""RMSNorm by blocks of rows equals transformers' module."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import GemmaConfig, GemmaForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from crlft_ray.model.rms_norm import RmsNorm, compute_in_blocks

SMALL = {
    "vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8,
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1, 8), (2, 700, 576), (4100, 64), (40, 8192)])
def test_values_and_gradients(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    module = LlamaRMSNorm(shape[-1], 1e-5).to(dtype)
    with torch.no_grad():
        module.weight.uniform_(0.5, 1.5)
    x, grad = (torch.randn(shape).to(dtype) for _ in range(2))
    x.requires_grad_()
    ours, theirs = RmsNorm.apply(x, module.weight, 1e-5), module(x)
    assert torch.equal(ours, theirs)

    exact = copy.deepcopy(module).double()
    exact_x = x.detach().double().requires_grad_()
    normed = exact_x * torch.rsqrt(exact_x.pow(2).mean(-1, keepdim=True) + 1e-5)
    wanted = torch.autograd.grad(exact.weight * normed, [exact_x, exact.weight], grad.double())
    before = [each.clone() for each in (x, grad)]
    found = torch.autograd.grad(ours, [x, module.weight], grad)
    usual = torch.autograd.grad(theirs, [x, module.weight], grad)
    assert all(torch.equal(one, other) for one, other in zip(before, (x, grad), strict=True))
    for one, other, right in zip(found, usual, wanted, strict=True):
        assert one.dtype == dtype
        error, usual_error = ((each.double() - right).norm() / right.norm() for each in (one, other))
        assert error <= max(1.1 * float(usual_error), 1e-6)


@pytest.mark.parametrize(
    ("model_class", "config", "replaced"),
    [
        (LlamaForCausalLM, LlamaConfig(**SMALL), 5),
        (Qwen2ForCausalLM, Qwen2Config(**SMALL), 5),
        # Its norms multiply by 1 + weight.
        (GemmaForCausalLM, GemmaConfig(**SMALL), 0),
    ],
)
def test_models(model_class: type, config: object, replaced: int) -> None:
    torch.manual_seed(0)
    model = model_class(config)
    ids = torch.randint(0, 50, (1, 20))
    before = model(ids).logits
    compute_in_blocks(model)
    assert sum("forward" in vars(module) for module in model.modules()) == replaced
    after = model(ids).logits
    assert torch.equal(before, after)
    after.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
