"""Checkpoints: copied out of the engine, written in the background, found again whole or not at all."""
