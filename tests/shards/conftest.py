"""An S3 store of our own: moto's server, a real HTTP process on this machine."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest


@pytest.fixture(scope="session")
def s3_folder() -> Iterator[str]:
    """A URI with a gap for the path: `s3_folder.format("some/folder")`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _make_bucket(port)
        query = f"endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
        yield f"s3://test:test@bucket/{{}}?{query}"
    finally:
        server.terminate()
        server.wait()


def _make_bucket(port: int) -> None:
    deadline = time.monotonic() + 120
    while True:
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("PUT", "/bucket")
            assert connection.getresponse().status == 200
            return
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "moto's server did not start"
            time.sleep(0.2)
        finally:
            connection.close()
