"""`crlft plan`: will it fit, how long will it take, what else does it need; nothing is loaded or started."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from crlft_ray.config import Config
from crlft_ray.device import with_precision
from crlft_ray.errors import UserError
from crlft_ray.model.shape import model_config
from crlft_ray.planning.advice import Mend, Setup, mends
from crlft_ray.planning.data import prepared, readers, steps
from crlft_ray.planning.figure import Figure, Figures, exact
from crlft_ray.planning.gpus import gpu_named
from crlft_ray.planning.memory import MASTER_BYTES, Memory, partition
from crlft_ray.planning.size import ModelSize, model_size
from crlft_ray.planning.speed import LINK_SHARE, Cluster, communication, step_time
from crlft_ray.planning.zero import Zero, zero_settings
from crlft_ray.shards.prepare import model_path

_STORAGE = 1e9
"""Bytes/s that a node writes to storage."""


@dataclass(frozen=True)
class Plan:
    """What a run needs and costs on a cluster. Figures say how they were worked out, and which are estimates."""

    model: str
    parameters: int
    nodes: int
    gpus: int
    """Of each node."""
    gpu: str
    memory: Memory
    """Of one GPU, and of each node's host."""
    mends: list[Mend]
    """What would make it fit, where it does not."""
    communication: Figures
    """Bytes that one rank sends in a step."""
    time: Figures
    checkpoint: Figures
    data: Figures
    notes: list[str]
    """What of the config does not go with this cluster."""

    @property
    def fits(self) -> bool:
        return self.memory.fits

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = asdict(self)
        found["memory"] |= {"peak": self.memory.peak, "fits": self.fits}
        return found


def plan(config: Config, *, nodes: int, gpus: int, gpu: str, tokens: int | None = None, network: float = 100.0) -> Plan:
    """Works out a run of `config` on `nodes` x `gpus` GPUs, whatever workers the config itself asks for.

    Args:
        nodes, gpus: hosts, and GPUs of each.
        gpu: a name of `crlft_ray.planning.gpus.GPUS`.
        tokens: of the data, where its shards are not prepared yet.
        network: Gbit/s between nodes, of each in one direction.

    Raises:
        UserError: an unknown GPU or model, a number below 1, or DeepSpeed settings other than ZeRO-3.
    """
    for name, value in (("nodes", nodes), ("gpus", gpus), ("tokens", tokens), ("network", network)):
        if value is not None and value <= 0:
            raise UserError(f"--{name} {value:g}: must be more than 0")
    cluster = Cluster(nodes, gpus, gpu_named(gpu), network * 1e9 / 8)
    on_gpus = _on_gpus(config)
    zero = zero_settings(on_gpus)
    known = model_config(model_path(config), config.data.context)
    size = model_size(known, on_gpus.train.precision, config.data.pack_tokens, config.data.context)
    setup = Setup(size, zero, cluster.gpu, nodes, gpus, config.train.gradient_checkpointing)
    memory = setup.memory()
    sent, time = _time(config, setup, cluster)
    data = _data(config, cluster, time, tokens)
    return Plan(
        model=config.model,
        parameters=size.total,
        nodes=nodes,
        gpus=gpus,
        gpu=gpu,
        memory=memory,
        mends=[] if memory.fits else mends(setup, _smaller_pack(on_gpus, known)),
        communication=sent,
        time=time | _whole(config, data, time),
        checkpoint=_checkpoint(config, size, zero, cluster),
        data=data,
        notes=list(_notes(config, cluster)),
    )


def _on_gpus(config: Config) -> Config:
    """The config with workers that have a GPU each, which decides some of our DeepSpeed settings."""
    resources = {**config.train.resources_per_worker, "GPU": 1.0}
    train = config.train.model_copy(update={"resources_per_worker": resources})
    return with_precision(config.model_copy(update={"train": train}))


def _smaller_pack(config: Config, known: Any) -> tuple[int, ModelSize] | None:
    context = config.data.context
    if context == config.data.pack_tokens or config.train.global_batch_tokens % context:
        return None
    return context, model_size(known, config.train.precision, context, context)


def _time(config: Config, setup: Setup, cluster: Cluster) -> tuple[Figures, Figures]:
    packs = config.train.global_batch_tokens // config.data.pack_tokens
    micro_batches = -(-packs // cluster.world)
    checkpointing = setup.checkpointing
    sent = communication(
        setup.size, setup.zero, cluster.world, micro_batches=micro_batches, checkpointing=checkpointing
    )
    time = step_time(setup.size, setup.zero, cluster, sent, micro_batches=micro_batches, checkpointing=checkpointing)
    slots, seconds = config.train.global_batch_tokens, time["step"].value
    time["tokens/s"] = Figure(slots / seconds, "tokens/s", f"{slots:,} tokens of a step / {seconds:.3g} s")
    time["1M tokens"] = Figure(1e6 * seconds / slots, "s", f"1,000,000 x {seconds:.3g} s / {slots:,} tokens")
    return sent, time


def _data(config: Config, cluster: Cluster, time: Figures, tokens: int | None) -> Figures:
    manifest = prepared(config)
    found: Figures = {}
    whole = steps(config, manifest, tokens)
    if whole is not None:
        found["steps"] = whole
    threads = config.train.threads_per_worker
    found["CPUs of workers"] = exact(
        cluster.world * threads, "CPUs", f"{cluster.world} ranks x train.threads_per_worker = {threads}"
    )
    found["CPUs of Ray Data"] = readers(time["tokens/s"].value)
    return found


def _whole(config: Config, data: Figures, time: Figures) -> Figures:
    if "steps" not in data:
        return {}
    count, seconds = data["steps"].value, time["step"].value
    return {"run": Figure(count * seconds / 3600, "h", f"{count:,.0f} steps x {seconds:.3g} s / 3600")}


def _checkpoint(config: Config, size: ModelSize, zero: Zero, cluster: Cluster) -> Figures:
    mine = partition(size, cluster.world)
    whole = mine * cluster.world * MASTER_BYTES
    kept = config.train.keep + 2
    return {
        "size": exact(whole, "bytes", f"{size.total:,} parameters x {MASTER_BYTES} (fp32 weights and two moments)"),
        "kept": exact(kept * whole, "bytes", f"train.keep = {config.train.keep}, the best, and one being written"),
        "export": exact(
            size.total * zero.parameter_bytes, "bytes", f"{size.total:,} parameters x {zero.parameter_bytes}"
        ),
        "training waits": Figure(
            mine * MASTER_BYTES / (cluster.gpu.host_link * LINK_SHARE),
            "s",
            f"copy of a rank's {mine * MASTER_BYTES:,} bytes to the host at {cluster.gpu.host_link * LINK_SHARE:.3g} "
            "bytes/s",
        ),
        "writing": Figure(
            whole / cluster.nodes / _STORAGE,
            "s",
            f"{whole:,} bytes / {cluster.nodes} nodes / {_STORAGE:.0e} bytes/s of each to storage, beside training",
        ),
    }


def _notes(config: Config, cluster: Cluster) -> Iterator[str]:
    train, world = config.train, cluster.world
    most = train.workers if isinstance(train.workers, int) else train.workers.max
    if not train.least_workers <= world <= most:
        yield f"the config asks for other workers: --set train.workers={world} trains on all of these GPUs"
    if train.resources_per_worker.get("GPU", 0) <= 0:
        yield "the config's workers ask for no GPU: --set 'train.resources_per_worker={GPU: 1}'"
    packs = train.global_batch_tokens // config.data.pack_tokens
    if packs % world:
        yield (
            f"a step has {packs} packs for {world} ranks: {-packs % world} of {packs + -packs % world} micro-batches "
            f"are empty; make train.global_batch_tokens a multiple of {world * config.data.pack_tokens:,}, or "
            "data.pack_tokens smaller"
        )
