"""Does MLflow answer, to the driver that reports the run and from the nodes?"""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from crlft_ray.diagnosis.finding import DRIVER, Finding, judged
from crlft_ray.diagnosis.nodes import Cluster, Node
from crlft_ray.tracking import tracking_uri
from crlft_ray.tracking.store import connect, reason, shown

CHECK = "MLflow"
_SQLITE = "sqlite:///"
_PATIENCE_S = 10.0
_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def knock(url: str | None, address: tuple[str, int] | None, seconds: float) -> str | None:
    """Asks a web server for its health, or opens a connection to a database; why that failed."""
    try:
        if url:
            urllib.request.urlopen(url, timeout=seconds).close()
        elif address:
            socket.create_connection(address, timeout=seconds).close()
    except urllib.error.HTTPError:
        # It answered; whether it takes our credentials is seen at the driver, which is the one to use them.
        return None
    except OSError as error:
        return str(getattr(error, "reason", None) or error)
    return None


def check_mlflow(cluster: Cluster) -> list[Finding]:
    """One request as the run itself sends them, from the driver; from the nodes whether they reach the server."""
    if cluster.config is None:
        return []
    uri = tracking_uri(cluster.config.tracking.uri, cluster.config.output)
    if uri.startswith(_SQLITE) and not Path(uri.removeprefix(_SQLITE)).exists():
        return [Finding(CHECK, DRIVER, True, f"{uri} is made by the first run")]
    try:
        connect(uri).search_experiments(max_results=1)
    except Exception as error:
        # MLflow passes on whatever its database and its HTTP client raise.
        text = f"{shown(uri)} does not answer ({reason(error, uri)}): start the server, or mend tracking.uri or the "
        driver = Finding(CHECK, DRIVER, False, text + "credentials")
    else:
        driver = Finding(CHECK, DRIVER, True, f"{shown(uri)} answers")
    url, address = _door(uri)
    if not url and not address:
        return [driver]

    def judge(node: Node, failed: str | None) -> tuple[bool, str]:
        if failed:
            return False, f"{shown(uri)} cannot be reached ({failed}): start the server, or open the way to it"
        return True, f"{shown(uri)} can be reached"

    return [driver, *judged(CHECK, cluster.ask(knock, url, address, _PATIENCE_S), judge)]


def _door(uri: str) -> tuple[str | None, tuple[str, int] | None]:
    """Where to knock: a URL without credentials, or a database's host and port; neither for a file or Databricks."""
    parts = urlsplit(uri)
    kind = parts.scheme.partition("+")[0]
    if not parts.hostname:
        return None, None
    if kind in ("http", "https"):
        return f"{kind}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/health", None
    port = parts.port or _DATABASE_PORTS.get(kind)
    return None, (parts.hostname, port) if port else None
