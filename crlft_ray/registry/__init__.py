"""The MLflow model registry, with a gate: an alias moves only to a model that generalizes better than its base."""
