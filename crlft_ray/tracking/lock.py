"""Two processes of one machine, one after the other."""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

_LONGEST_S = 120.0


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock of the file at `path`, which is made with its folder.

    A network file system may have no locks, or one that nobody holds any more: then those who want it, who seldom meet,
    take their chance.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        deadline = time.monotonic() + _LONGEST_S
        while time.monotonic() < deadline:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.1)
            except OSError as error:
                log.debug("tracking: %s cannot be locked: %s", path, error)
                break
            else:
                break
        yield
