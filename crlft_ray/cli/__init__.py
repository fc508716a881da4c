"""The command line: each command is a function of the library with the same name and parameters."""

from __future__ import annotations

import logging
import sys

from crlft_ray.cli import line, models, nodes, studies
from crlft_ray.cli.app import app
from crlft_ray.errors import Stopped, TrainingFailed, UserError

__all__ = ["line", "main", "models", "nodes", "studies"]

USER_CAN_MEND = 2
RESUMABLE = 75


def main() -> None:
    """Runs the CLI; what the user can mend is one message and exit code 2."""
    # DeepSpeed announces at import what it found; here only its errors are news.
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("crlft_ray").addHandler(handler)
    logging.getLogger("crlft_ray").setLevel(logging.INFO)
    try:
        app()
    except UserError as error:
        print(f"crlft: {error}", file=sys.stderr)
        sys.exit(USER_CAN_MEND)
    except KeyboardInterrupt:
        print("crlft: interrupted", file=sys.stderr)
        sys.exit(1)
    except Stopped as stopped:
        print(f"crlft: {stopped}", file=sys.stderr)
        sys.exit(RESUMABLE)
    except TrainingFailed as error:
        print(f"crlft: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        # A disk that is full, storage that denies access or does not answer: its own words say what is wrong.
        print(f"crlft: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
