"""Keeps what a study knows in a remote output, too: its next driver may run on another node."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from crlft_ray.storage import Place
from crlft_ray.tracking.spool import replace_text

log = logging.getLogger(__name__)

MEMORY = "memory"
"""Folder in the output."""

_EVERY_S = 10.0
_JOURNAL = "study/trials.jsonl"
_FILES = ("run.json", "study/study.json", "study/time.json", _JOURNAL)


@contextmanager
def mirrored(folder: Path, output: str) -> Iterator[None]:
    """Brings the study's memory from the output, where that has more of it, and copies it there while the block runs.

    Args:
        folder: local tracking folder of the study.
        output: the study's; nothing is done where it is local, because then `folder` lies in it.
    """
    if "://" not in output:
        yield
        return
    place = Place.of(output) / MEMORY
    _fetch(place, folder)
    ended = Event()
    copying = Thread(target=_copy_until, args=(ended, folder, place), daemon=True, name="crlft-mirror")
    copying.start()
    try:
        yield
    finally:
        ended.set()
        copying.join()


def _fetch(place: Place, folder: Path) -> None:
    """The journal only grows: the longer one is the later."""
    theirs = place / _JOURNAL
    ours = folder / _JOURNAL
    if not theirs.exists() or (ours.exists() and ours.stat().st_size >= theirs.info().size):
        return
    for name in _FILES:
        if (place / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            replace_text(folder / name, (place / name).read_text())


def _copy_until(ended: Event, folder: Path, place: Place) -> None:
    copied: dict[str, str] = {}
    warned = False
    while True:
        # The last copy is made after the end was told.
        last = ended.wait(_EVERY_S)
        try:
            _copy(folder, place, copied)
            warned = False
        except OSError as error:
            if not warned:
                log.warning("tune: what the study knows could not be copied to %s: %s", place, error)
            warned = True
        if last:
            return


def _copy(folder: Path, place: Place, copied: dict[str, str]) -> None:
    """Whatever is not as it was copied."""
    for name in _FILES:
        text = (folder / name).read_text(encoding="utf-8") if (folder / name).exists() else ""
        if text and text != copied.get(name):
            (place / name).parent.make_folder()
            (place / name).write_bytes(text.encode())
            copied[name] = text
