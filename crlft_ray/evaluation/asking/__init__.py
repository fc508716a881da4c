"""Puts questions to models: one engine a worker, the questions spread over the cluster."""
