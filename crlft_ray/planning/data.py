"""How much there is to learn from, and what brings it to the GPUs."""

from __future__ import annotations

import math

from crlft_ray.config import Config
from crlft_ray.errors import UserError
from crlft_ray.planning.figure import Figure, exact
from crlft_ray.shards.manifest import Manifest, read_manifest
from crlft_ray.shards.prepare import shards_folder
from crlft_ray.training.schedule import order_of, planned_steps

READ_RATE = 350_000.0
"""Tokens/s that one CPU reads, decodes and hands over: tests/benchmarks/stream.py had 700,000 (from the middle of an
epoch) to 2,200,000 on two CPUs that had other work, too."""


def prepared(config: Config) -> Manifest | None:
    """The manifest of the run's shards, if they are made.

    Raises:
        UserError: they are damaged, or made with other packs.
    """
    folder = shards_folder(config)
    if not folder.exists():
        return None
    manifest = read_manifest(folder)
    if manifest.pack_tokens != config.data.pack_tokens:
        raise UserError(
            f"{folder}: made with data.pack_tokens = {manifest.pack_tokens}, this config has "
            f"{config.data.pack_tokens}; run `crlft prepare`"
        )
    return manifest


def steps(config: Config, manifest: Manifest | None, tokens: int | None) -> Figure | None:
    """Optimizer steps of the whole run, or None where nobody knows the data."""
    train = config.train
    limit = "" if train.max_steps is None else f", at most train.max_steps = {train.max_steps:,}"
    if manifest is not None:
        value = planned_steps(config, order_of(config, manifest))
        return exact(value, "steps", f"{manifest.packs:,} packs of the shards, {train.epochs} epoch(s){limit}")
    if tokens is not None:
        value = train.epochs * math.ceil(tokens / train.global_batch_tokens)
        value = value if train.max_steps is None else min(value, train.max_steps)
        return Figure(
            value, "steps", f"{tokens:,} tokens / {train.global_batch_tokens:,} a step, {train.epochs} epoch(s){limit}"
        )
    if train.max_steps is not None:
        return Figure(train.max_steps, "steps", "train.max_steps, if the data is enough for it")
    return None


def readers(tokens_per_second: float) -> Figure:
    """CPUs that Ray Data needs beside the workers' own."""
    return Figure(
        math.ceil(tokens_per_second / READ_RATE),
        "CPUs",
        f"{tokens_per_second:,.0f} tokens/s / {READ_RATE:,.0f} tokens/s that a CPU reads (measured), rounded up",
    )
