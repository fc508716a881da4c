"""The MLflow run around a training."""

from __future__ import annotations

import logging
from pathlib import Path

from crlft_ray.config import Config
from crlft_ray.errors import Stopped, UserError
from crlft_ray.shards.manifest import Manifest
from crlft_ray.shards.prepare import shards_folder
from crlft_ray.shards.verify import VERIFIED
from crlft_ray.storage import Place
from crlft_ray.tracking import (
    Dataset,
    Delivery,
    Record,
    Run,
    RunSpec,
    mlflow_environment,
    plot_curves,
    read_records,
    tracking_uri,
)
from crlft_ray.tracking.store import shown
from crlft_ray.training.channel import Channel
from crlft_ray.training.cluster import beside_driver

log = logging.getLogger(__name__)

PARENT_TAG = "mlflow.parentRunId"


def tracking_folder(config: Config) -> Path:
    """Where metrics wait for MLflow: in the output, or beside this process where that is remote."""
    if "://" in config.output:
        return Path("crlft-tracking").absolute() / Place.of(config.output).path
    return Path(config.output).absolute() / "tracking"


def remembered(config: Config) -> list[Place]:
    """What earlier starts left in the tracking folder, but for what is known of the shards: a start has just read them,
    and the next one need not do it again."""
    folder = Place.of(tracking_folder(config))
    return [place for place in folder.children() if place.name != VERIFIED] if folder.is_folder() else []


class Tracked:
    """The MLflow run and the channel around a training; ends the run however the training ended.

    The run is to be opened (`begin`) while the workers start: a new database takes two seconds. A run that a
    checkpoint names is continued, also where the folder that remembers it is gone.
    """

    def __init__(self, config: Config, manifest: Manifest, run_id: str | None, parent_run: str | None) -> None:
        self._config = config
        folder = tracking_folder(config)
        folder.mkdir(parents=True, exist_ok=True)
        self.run = Run(tracking_uri(config.tracking.uri, config.output), folder)
        facts = {**manifest.counts, "packs": manifest.packs, "tokens": manifest.tokens, "fill": manifest.fill}
        self.run.describe(
            RunSpec(
                experiment=config.tracking.experiment,
                name=Place.of(config.output).name,
                params=config.model_dump(mode="json", by_alias=True),
                dataset=Dataset("shards", manifest.fingerprint, str(shards_folder(config)), facts),
                tags={"fingerprint": manifest.fingerprint, **({PARENT_TAG: parent_run} if parent_run else {})},
            ),
            run_id,
        )
        # Beside the driver: that is where the spool and a SQLite database lie.
        self.channel = beside_driver(Channel).remote(self.run.uri, folder)
        self.channel.take_access.remote(mlflow_environment())
        self.last_metrics: dict[str, float] = {}
        self._refused = False

    def __enter__(self) -> Tracked:
        return self

    def begin(self) -> None:
        """Opens the run.

        Raises:
            UserError: MLflow refuses it (`Run.begin`).
        """
        try:
            self.run.begin()
        except UserError:
            self._refused = True
            raise

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._refused:
            # There is no run to end, and the recorder would only be refused, too.
            import ray

            ray.kill(self.channel)
            return
        stopped = kind is not None and issubclass(kind, Stopped | KeyboardInterrupt)
        try:
            records = self._end_channel()
            for record in records:
                self.last_metrics.update(record.metrics)
            self._log_artifacts(records)
        except OSError as error:
            log.warning("tracking: curves and settings could not be added to the run: %s", error)
        finally:
            self.run.finish("FINISHED" if kind is None else "KILLED" if stopped else "FAILED")

    def _end_channel(self) -> list[Record]:
        """All metrics of the run."""
        import ray
        from ray.exceptions import RayError

        try:
            records: list[Record] = ray.get(self.channel.history_since.remote(0)).records
            delivery: Delivery = ray.get(self.channel.close.remote())
        except RayError:
            log.warning("tracking: the recorder is gone; what it had not sent waits in %s", self.run.folder)
            return read_records(tracking_folder(self._config) / "metrics.jsonl")
        ray.kill(self.channel)
        if not delivery.complete:
            # The actor's own warning is in its log, which nobody reads.
            log.warning(
                "tracking: MLflow at %s lacks %d value(s) (%s), which wait in %s for the next run of this output; "
                "%d are lost",
                shown(self.run.uri),
                delivery.unsent,
                delivery.failure or "not sent in time",
                self.run.folder,
                delivery.lost,
            )
        return records

    def _log_artifacts(self, records: list[Record]) -> None:
        folder = tracking_folder(self._config)
        plots = plot_curves(records, folder / "curves")
        self.run.log_artifacts(plots, "curves")
        shards, output = shards_folder(self._config), Place.of(self._config.output)
        copies = folder / "artifacts"
        copies.mkdir(exist_ok=True)
        for place in (output / "config.yaml", shards / "manifest.json"):
            # An output on storage may have its credentials in the URI.
            (copies / place.name).write_text(shown(place.read_text()), encoding="utf-8")
        self.run.log_artifacts(sorted(copies.iterdir()))
