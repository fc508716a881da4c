"""From a model folder to scores: benchmarks through lm-eval, and what their numbers are worth."""
