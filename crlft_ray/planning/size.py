"""What a model is made of, found by running its own code on the meta device: shapes without data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from crlft_ray.errors import UserError, reason_of
from crlft_ray.model.load import DTYPES

_ATTENTION = "crlft_plan"


@dataclass(frozen=True)
class ModelSize:
    """Counts of one model and one pack; sizes are in elements unless they say bytes."""

    parameters: tuple[int, ...]
    """Of each parameter; tied ones once."""
    modules: tuple[tuple[int | None, tuple[int, ...]], ...]
    """As the forward pass begins them: number of the layer it is in, and which parameters are its own, if any."""
    finished: tuple[int, ...]
    """Those of `modules` that the backward pass goes through, as the forward pass finishes them."""
    layer_bytes: tuple[int, ...]
    """What the backward pass of each layer keeps of the forward pass."""
    input_bytes: int
    """Of a layer's input, which is all that gradient checkpointing keeps."""
    outer_bytes: int
    """What is kept outside of layers."""
    layer_flops: float
    """Of one forward pass of a pack through all layers."""
    head_flops: float
    vocabulary: int

    @property
    def total(self) -> int:
        """All parameters."""
        return sum(self.parameters)

    @property
    def largest(self) -> int:
        """The largest parameter, mostly the embedding."""
        return max(self.parameters)


def model_size(model_config: Any, precision: str, pack_tokens: int, context: int) -> ModelSize:
    """Builds the model without data and runs one pack of conversations of `context` tokens through its layers.

    Raises:
        UserError: the model's code needs data to run.
    """
    from transformers import AttentionInterface, AutoModelForCausalLM

    meter = _Meter(context)
    AttentionInterface.register(_ATTENTION, meter.attention)
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(
                model_config, dtype=DTYPES[precision], attn_implementation=_ATTENTION
            ).train()
            return meter.measure(model, pack_tokens)
    except (RuntimeError, NotImplementedError, ValueError) as error:
        raise UserError(
            f"model: its code does not run without data, so it cannot be planned: {reason_of(error)}"
        ) from None


class _Attention(torch.autograd.Function):
    """Keeps what the attention kernel keeps for its backward pass: queries, keys, values, output, log-sum-exp."""

    @staticmethod
    def forward(ctx: Any, q_1NTH: torch.Tensor, k_1KTH: torch.Tensor, v_1KTH: torch.Tensor) -> torch.Tensor:
        _, heads, tokens, _ = q_1NTH.shape
        out_1TNH = q_1NTH.new_empty(1, tokens, heads, v_1KTH.shape[3])
        ctx.save_for_backward(q_1NTH, k_1KTH, v_1KTH, out_1TNH, q_1NTH.new_empty(heads, tokens, dtype=torch.float32))
        return out_1TNH


class _Meter:
    """Watches one forward pass."""

    def __init__(self, context: int) -> None:
        self._context = context
        self._attention_flops = 0.0
        self._inside: int | None = None
        """The layer that is running."""
        self._kept: dict[int, tuple[int | None, torch.UntypedStorage]] = {}
        """By address: what the backward pass keeps, and in which layer it was kept first."""
        self._modules: list[tuple[int | None, tuple[int, ...]]] = []
        self._running: list[int] = []
        self._finished: list[int] = []

    def attention(self, module: Any, q_1NTH: Any, k_1KTH: Any, v_1KTH: Any, *_: Any, **__: Any) -> tuple[Any, None]:
        """Stands in for `packed_attention`."""
        _, heads, tokens, size = q_1NTH.shape
        # Two products of 2·N·H FLOP for each pair; a token sees half of its conversation on average.
        self._attention_flops += 2 * heads * (size + v_1KTH.shape[3]) * tokens * min(self._context, tokens) / 2
        kept = (q_1NTH.contiguous(), k_1KTH.contiguous(), v_1KTH.contiguous())
        return _Attention.apply(*kept), None  # type: ignore[no-untyped-call]

    def measure(self, model: Any, pack_tokens: int) -> ModelSize:
        """Runs a pack through all but the output layer."""
        from torch.utils.flop_counter import FlopCounterMode
        from transformers.modeling_layers import GradientCheckpointingLayer

        parameters = list(model.parameters())
        numbers = {id(parameter): number for number, parameter in enumerate(parameters)}
        head = model.get_output_embeddings()
        layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
        for number, layer in enumerate(layers):
            layer.register_forward_pre_hook(self._enter(number))
            layer.register_forward_hook(self._leave)
        for module in model.base_model.modules():
            used = tuple(numbers[id(parameter)] for parameter in module.parameters(recurse=False))
            module.register_forward_pre_hook(self._begin(used))
            module.register_forward_hook(self._finish)
        own = {parameter.untyped_storage()._cdata for parameter in parameters}
        counter = FlopCounterMode(display=False)
        with torch.autograd.graph.saved_tensors_hooks(self._keep(own), lambda kept: kept), counter:
            ids_1T = torch.zeros(1, pack_tokens, dtype=torch.long)
            hidden_1TD = model.base_model(input_ids=ids_1T, use_cache=False).last_hidden_state
        # The wrapper around both, and the output layer, which runs last.
        own_of_head = tuple(numbers[id(parameter)] for parameter in head.parameters(recurse=False))
        modules = ((None, ()), *self._modules, (None, own_of_head))
        return ModelSize(
            parameters=tuple(parameter.numel() for parameter in parameters),
            modules=modules,
            finished=(*(number + 1 for number in self._finished), len(modules) - 1, 0),
            layer_bytes=tuple(self._kept_in(number) for number in range(len(layers))),
            input_bytes=hidden_1TD.nbytes,
            outer_bytes=self._kept_in(None),
            layer_flops=counter.get_total_flops() + self._attention_flops,
            head_flops=2.0 * head.weight.numel() * pack_tokens,
            vocabulary=head.weight.shape[0],
        )

    def _kept_in(self, layer: int | None) -> int:
        return sum(storage.nbytes() for inside, storage in self._kept.values() if inside == layer)

    def _enter(self, number: int) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            self._inside = number

        return hook

    def _leave(self, *_: Any) -> None:
        self._inside = None

    def _begin(self, used: tuple[int, ...]) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            self._running.append(len(self._modules))
            self._modules.append((self._inside, used))

        return hook

    def _finish(self, module: Any, inputs: Any, output: Any) -> None:
        number = self._running.pop()
        if any(isinstance(leaf, torch.Tensor) and leaf.requires_grad for leaf in tree_leaves(output)):
            self._finished.append(number)

    def _keep(self, own: set[int]) -> Callable[[torch.Tensor], torch.Tensor]:
        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                # Kept alive, so that no other storage gets its address.
                self._kept.setdefault(storage._cdata, (self._inside, storage))
            return tensor

        return pack
