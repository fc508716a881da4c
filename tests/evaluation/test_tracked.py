"""Where MLflow gets an evaluation, and servers that do not take it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from crlft_ray.errors import UserError
from crlft_ray.evaluation.evaluate import evaluate
from crlft_ray.evaluation.tracked import address
from tests.cli.command import crlft
from tests.evaluation.letter_models import NEWLINE, write_model


@pytest.mark.parametrize(
    ("option", "variable", "found"),
    [
        (None, None, "sqlite:////x/out/mlflow.db"),
        (None, "", "sqlite:////x/out/mlflow.db"),
        (None, "http://host:5000", "http://host:5000"),
        ("sqlite:////own.db", "runs", "sqlite:////own.db"),
    ],
)
def test_the_option_goes_before_the_environment(
    option: str | None, variable: str | None, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, variable)
    assert address(option, "/x/out") == found


@pytest.mark.parametrize(
    ("option", "variable", "output", "message"),
    [
        ("runs", "http://host:5000", "x", "^--tracking-uri: MLflow no longer keeps runs in plain folders"),
        ("gopher://host", None, "x", "^--tracking-uri: MLflow knows no such server: gopher://host"),
        ("uc:http://host", None, "x", "^--tracking-uri: MLflow cannot use uc:http://host"),
        ("http://me:secret@host", None, "x", "^--tracking-uri: .* holds a password"),  # pragma: allowlist secret
        (None, "runs", "x", "^MLFLOW_TRACKING_URI: MLflow no longer keeps runs in plain folders"),
        (None, None, "s3://bucket/x", "^--tracking-uri or MLFLOW_TRACKING_URI: is required"),
    ],
)
def test_what_mlflow_cannot_use_is_named_as_it_was_given(
    option: str | None, variable: str | None, output: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, variable)
    with pytest.raises(UserError, match=message):
        address(option, output)


@pytest.mark.slow
def test_it_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    model, output = write_model(tmp_path / "model", NEWLINE, adds_bos=False), tmp_path / "out"
    asked = ("evaluate", model, "--limit", "1", "--output", output)
    crlft(*asked, "--tracking-uri", "runs").refuses("--tracking-uri: MLflow no longer keeps runs in plain folders")
    assert not output.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "does not accept the user name and password"), (403, "this user lacks the permission")],
)
def test_a_server_that_denies_access_takes_no_scores_away(
    status: int, message: str, ray_session: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, output = write_model(tmp_path / "model", NEWLINE, adds_bos=False), tmp_path / "out"
    with _denying(status) as uri:
        found = evaluate([str(model)], limit=1, output=str(output), tracking_uri=uri)
    assert len(found.models[0].suites["agieval"].answers) == 8
    assert (output / "report.html").exists()
    assert message in caplog.text
    assert f"scores and report are in {output}" in caplog.text


def _set(patch: pytest.MonkeyPatch, variable: str | None) -> None:
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if variable is not None:
        patch.setenv("MLFLOW_TRACKING_URI", variable)


@contextmanager
def _denying(status: int) -> Iterator[str]:
    """A server that answers everything as MLflow does those whom it does not let in."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", "17")
            self.end_headers()
            self.wfile.write(b"Permission denied")

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
