"""Calls the command line as a person does: arguments in, exit code and text out."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from dataclasses import dataclass
from pathlib import Path

from crlft_ray.cli import main


@dataclass(frozen=True)
class Outcome:
    """What a command gave back."""

    code: int
    out: str
    err: str

    def refuses(self, *parts: str) -> None:
        """It was one message that a person can act on, which says all of `parts`; exit code 2."""
        assert self.code == 2, self.err
        assert self.err.count("crlft: ") == 1, self.err
        assert "Traceback" not in self.err + self.out, self.err
        message = self.err[self.err.index("crlft: ") :]
        assert all(part in message for part in parts), message
        assert self.out == ""


def crlft(*arguments: str | Path) -> Outcome:
    """Runs the console script's function in this process, which has Ray connected and everything imported."""
    out, err = io.StringIO(), io.StringIO()
    before, logger = sys.argv, logging.getLogger("crlft_ray")
    handlers = list(logger.handlers)
    sys.argv = ["crlft", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
        code = 0
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    finally:
        sys.argv, logger.handlers = before, handlers
    return Outcome(code, out.getvalue(), err.getvalue())


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder with size and time of change."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(file.relative_to(folder)): (file.stat().st_size, file.stat().st_mtime_ns) for file in files}
