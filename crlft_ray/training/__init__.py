"""Shards to checkpoints to export: Ray Train workers, each a rank of DeepSpeed ZeRO-3."""
