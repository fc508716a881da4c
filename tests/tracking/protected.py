"""An MLflow server with PostgreSQL, an artifact store behind its proxy, and users."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mlflow.server import get_app_client

from tests.postgres import Postgres
from tests.tracking.server import Server

AUTH = """[mlflow]
default_permission = NO_PERMISSIONS
database_uri = {database}
admin_username = keeper
admin_password = {password}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
"""


@dataclass(frozen=True)
class Site:
    """A server and its users; `keeper` may do everything, `trainer` what he made himself, and `guest` nothing."""

    server: Server
    database: Postgres
    passwords: dict[str, str] = field(
        default_factory=lambda: {name: secrets.token_urlsafe(18) for name in ("keeper", "trainer", "guest")}
    )

    @property
    def uri(self) -> str:
        return self.server.uri

    def become(self, name: str, patch: pytest.MonkeyPatch, password: str | None = None) -> None:
        """This process, but not the cluster's, has a user's credentials."""
        patch.setenv("MLFLOW_TRACKING_URI", self.uri)
        patch.setenv("MLFLOW_TRACKING_USERNAME", name)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", password or self.passwords[name])

    def reveals(self, content: str | bytes) -> bool:
        """Whether a password is in it, plain or as it goes over the line."""
        content = content.encode() if isinstance(content, str) else content
        pairs = [f"{name}:{password}".encode() for name, password in self.passwords.items()]
        words = [password.encode() for password in self.passwords.values()]
        return any(word in content for word in [*words, *(base64.b64encode(pair) for pair in pairs)])


@contextmanager
def protected_server(
    programs: Path, folder: Path, address: str = "127.0.0.1", passwords: Mapping[str, str] | None = None
) -> Iterator[Site]:
    """Such a server at an address of this machine; `programs` are PostgreSQL's, `passwords` some users' chosen ones."""
    database = Postgres(programs, ["mlflow", "users"])
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(),
        # Jobs of the server itself, which would only take longer to start.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"{address}:*",
    }
    options = ["--app-name", "basic-auth", "--serve-artifacts"]
    site = Site(Server(folder, database.uri("mlflow"), options, environment, address), database)
    site.passwords.update(passwords or {})
    (folder / "auth.ini").write_text(AUTH.format(database=database.uri("users"), password=site.passwords["keeper"]))
    try:
        site.server.start()
        with pytest.MonkeyPatch.context() as patch:
            site.become("keeper", patch)
            users = get_app_client("basic-auth", site.uri)
            for name in ("trainer", "guest"):
                users.create_user(name, site.passwords[name])
        yield site
    finally:
        site.server.kill()
        database.end()
