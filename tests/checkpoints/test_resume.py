"""What a universal checkpoint leaves in AdamW's state is put right."""

from __future__ import annotations

import torch

from crlft_ray.checkpoints.resume import own_step_counters


def _loaded(device: str) -> torch.optim.AdamW:
    """An optimizer as DeepSpeed leaves it: one counter, as it was read from the disk, for all parameters."""
    parameters = [torch.nn.Parameter(torch.ones(3, device=device)) for _ in range(2)]
    optimizer = torch.optim.AdamW(parameters)
    counter = torch.tensor(7.0)
    for parameter in parameters:
        moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] = {"step": counter, **moments}
    return optimizer


def test_every_parameter_counts_its_own_steps() -> None:
    optimizer = _loaded("cpu")
    own_step_counters(optimizer)
    for parameter in optimizer.param_groups[0]["params"]:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert [float(state["step"]) for state in optimizer.state.values()] == [8.0, 8.0]


def test_a_counter_lies_where_its_parameter_does() -> None:
    """On no CPU: a device without memory stands for the GPU."""
    optimizer = _loaded("meta")
    own_step_counters(optimizer)
    assert [state["step"].device.type for state in optimizer.state.values()] == ["meta", "meta"]


def test_a_counter_that_is_a_number_stays_one() -> None:
    """As DeepSpeed's optimizer for the CPU has it."""
    optimizer = _loaded("cpu")
    for state in optimizer.state.values():
        state["step"] = 7
    own_step_counters(optimizer)
    assert [state["step"] for state in optimizer.state.values()] == [7, 7]
