"""An S3 store of our own: moto's server, a real HTTP process on this machine."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection


class ObjectStore:
    """A running server with one bucket; what it holds is in its memory."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        with socket.socket() as free:
            free.bind((address, 0))
            self._port = free.getsockname()[1]
        self._address = address
        command = [sys.executable, "-m", "moto.server", "--host", address, "--port", str(self._port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _make_bucket(address, self._port)

    def uri(self, path: str, user: str = "test:test@") -> str:
        """The URI of a path in the bucket; without `user` its credentials come from the environment."""
        return f"s3://{user}bucket/{path}?endpoint_override={self.endpoint}&scheme=http&region=us-east-1"

    @property
    def endpoint(self) -> str:
        """Address and port."""
        return f"{self._address}:{self._port}"

    def pause(self) -> None:
        """Nobody gets an answer until `go_on`."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def _make_bucket(address: str, port: int) -> None:
    deadline = time.monotonic() + 120
    while True:
        connection = HTTPConnection(address, port, timeout=30)
        try:
            connection.request("PUT", "/bucket")
            assert connection.getresponse().status == 200
            return
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "moto's server did not start"
            time.sleep(0.2)
        finally:
            connection.close()
