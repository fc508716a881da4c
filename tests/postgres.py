"""A PostgreSQL of our own, where this machine has one installed."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2

from tests.tracking.server import free_port


def postgres_programs() -> Path | None:
    """The folder of `initdb` and `postgres`; None where they are not installed."""
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    candidates = sorted(versions, key=lambda path: int(path.parts[-3]), reverse=True)
    if (found := shutil.which("initdb")) is not None:
        candidates.insert(0, Path(found).resolve())
    # A folder of links may have `initdb` alone.
    return next((path.parent for path in candidates if (path.parent / "postgres").exists()), None)


class Postgres:
    """A running database server on 127.0.0.1, with a password; what it holds is gone when it ends."""

    def __init__(self, programs: Path, databases: Sequence[str]) -> None:
        self.password = secrets.token_hex(16)
        self._port = free_port()
        # Not below pytest's folder, which only its owner may enter: PostgreSQL refuses to run as root.
        self._folder = Path(tempfile.mkdtemp(prefix="crlft-postgres-"))
        self._as: dict[str, Any] = _somebody_else(self._folder) if os.geteuid() == 0 else {}
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._start(programs)
            with closing(self._connect()) as connection:
                connection.autocommit = True
                for name in databases:
                    connection.cursor().execute(f'CREATE DATABASE "{name}"')
        except BaseException:
            self.end()
            raise

    def uri(self, database: str) -> str:
        """Of a database, for SQLAlchemy."""
        return f"postgresql+psycopg2://crlft:{self.password}@127.0.0.1:{self._port}/{database}"

    def dump(self, database: str) -> bytes:
        """Everything that a database holds, row by row."""
        rows: list[Any] = []
        with closing(psycopg2.connect(self.uri(database).replace("+psycopg2", ""))) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            for (table,) in cursor.fetchall():
                cursor.execute(f'SELECT * FROM "{table}"')
                rows += cursor.fetchall()
        return repr(rows).encode()

    def end(self) -> None:
        """Stops it and removes its files."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(60)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, programs: Path) -> None:
        data, secret, log = (self._folder / name for name in ("data", "password", "log"))
        secret.write_text(self.password)
        make = [str(programs / "initdb"), "-D", str(data), "-U", "crlft", "-A", "scram-sha-256", "--no-sync"]
        make += ["--pwfile", str(secret), "-E", "UTF8", "--locale", "C"]
        made = subprocess.run(make, cwd=self._folder, capture_output=True, text=True, timeout=120, **self._as)
        assert made.returncode == 0, made.stderr
        serve = [str(programs / "postgres"), "-D", str(data), "-p", str(self._port), "-h", "127.0.0.1"]
        # No file for connections: its path would be too long in many temporary folders.
        serve += ["-c", "unix_socket_directories=", "-c", "fsync=off"]
        with log.open("wb") as output:
            self._process = subprocess.Popen(serve, cwd=self._folder, stdout=output, stderr=output, **self._as)
        deadline = time.monotonic() + 60
        while True:
            assert self._process.poll() is None, log.read_text()
            try:
                self._connect().close()
                return
            except psycopg2.OperationalError:
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)

    def _connect(self) -> Any:
        return psycopg2.connect(self.uri("postgres").replace("+psycopg2", ""), connect_timeout=5)


def _somebody_else(folder: Path) -> dict[str, Any]:
    """Who PostgreSQL runs as where the tests run as root; the folder is his from now on."""
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = names.get("postgres") or names["nobody"]
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
