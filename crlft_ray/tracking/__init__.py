"""A run's record in MLflow: parameters, dataset, metrics, artifacts and curves; none of it can stop training."""

from crlft_ray.tracking.access import mlflow_environment
from crlft_ray.tracking.curves import plot_curves
from crlft_ray.tracking.recorder import Delivery, History, Recorder, deliver
from crlft_ray.tracking.run import Run
from crlft_ray.tracking.spool import Record, read_records
from crlft_ray.tracking.store import Dataset, RunSpec, check_kind, tracking_uri

__all__ = [
    "Dataset",
    "Delivery",
    "History",
    "Record",
    "Recorder",
    "Run",
    "RunSpec",
    "check_kind",
    "deliver",
    "mlflow_environment",
    "plot_curves",
    "read_records",
    "tracking_uri",
]
