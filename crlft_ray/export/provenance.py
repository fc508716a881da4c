"""crlft.json beside an export's weights: what the model learned from, for whoever evaluates or registers it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from crlft_ray import __version__
from crlft_ray.config import Config
from crlft_ray.errors import UserError
from crlft_ray.shards.manifest import Manifest

PROVENANCE = "crlft.json"


@dataclass(frozen=True)
class Provenance:
    """Where an exported model comes from."""

    base_model: str
    infer_as: str
    conditions: dict[str, str]
    """Class → condition."""
    weights: dict[str, float]
    """Class → class weight."""
    fingerprint: str
    """Of the shards."""
    steps: int
    version: str
    """Of this package."""

    def condition(self, name: str) -> str:
        """The condition of a class, or of none.

        Raises:
            UserError: there is no such class.
        """
        if name == "none":
            return ""
        if name not in self.conditions:
            raise UserError(f"condition: '{name}' is none of this model's classes: {', '.join(self.conditions)}, none")
        return self.conditions[name]


def provenance_of(config: Config, manifest: Manifest, steps: int) -> Provenance:
    """Of a model that was trained for `steps` steps."""
    return Provenance(
        base_model=config.model,
        infer_as=config.infer_as,
        conditions={name: spec.condition for name, spec in config.classes.items()},
        weights=dict(zip(config.class_names, config.class_weights(), strict=True)),
        fingerprint=manifest.fingerprint,
        steps=steps,
        version=__version__,
    )


def write_provenance(provenance: Provenance, folder: Path) -> None:
    """Writes crlft.json into a model folder."""
    text = json.dumps(asdict(provenance), indent=1, ensure_ascii=False)
    (folder / PROVENANCE).write_text(f"{text}\n", encoding="utf-8")


def read_provenance(folder: Path) -> Provenance | None:
    """Of a model folder; None for a model that this project did not export.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / PROVENANCE
    if not path.exists():
        return None
    try:
        return Provenance(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: damaged: {error}; export the model again (`crlft train`)") from None
