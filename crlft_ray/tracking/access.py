"""Access to an MLflow server: credentials come from the environment, and are written nowhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from crlft_ray.errors import UserError
from crlft_ray.tracking.store import shown

_HOW = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"


def mlflow_environment() -> dict[str, str]:
    """This process's settings of MLflow and PostgreSQL, credentials among them, for an actor to take over.

    Ray starts an actor with its node's environment, not with the driver's. They are to be handed over by a call of one
    of its methods: a runtime environment with them in it would be written to Ray's logs, and what an actor is made with
    is kept in the cluster's tables, which may lie in a Redis and on its disk.
    """
    return {name: value for name, value in os.environ.items() if name.startswith(("MLFLOW_", "PG"))}


def denial(error: BaseException, uri: str) -> str | None:
    """What a person can do about a server that denies access; None where `error` is something else.

    MLflow's REST API raises its own errors for that, its artifact proxy those of `requests`, or a text with theirs.
    """
    text = str(error)
    code = getattr(error, "error_code", None)
    status = getattr(getattr(error, "response", None), "status_code", None)
    if code == "UNAUTHENTICATED" or status == 401 or "401 Client Error" in text:
        return f"MLflow at {shown(uri)} does not accept the user name and password, or there are none; set {_HOW}"
    if code == "PERMISSION_DENIED" or status == 403 or "403 Client Error" in text:
        asked = re.search(r"/api/2\.0/(mlflow[\w-]*/[\w/.-]+)", text)
        return (
            f"MLflow at {shown(uri)} denies access{f' ({asked[1]})' if asked else ''}: this user lacks the permission; "
            f"ask who runs the server for it, or set {_HOW}, of somebody who has it"
        )
    return None


@contextmanager
def denials_explained(uri: str) -> Iterator[None]:
    """Makes one clear message of a server's denial; all other errors stay as they are.

    Raises:
        UserError: the server denied access.
    """
    try:
        yield
    except Exception as error:
        if (explained := denial(error, uri)) is not None:
            raise UserError(explained) from None
        raise
