"""Signals while trials run."""

from __future__ import annotations

import os
import signal
import time
from threading import Event, Timer

import pytest

from crlft_ray.tuning.budget import StopAsked
from crlft_ray.tuning.trials import _fit


class _Endless:
    """What runs trials until the study is asked to stop, or for ever."""

    def __init__(self, asked: StopAsked, *, deaf: bool) -> None:
        self._asked = asked
        self._deaf = deaf

    def fit(self) -> None:
        while self._deaf or not self._asked.yes:
            Event().wait(0.05)


def test_one_signal_ends_the_study_well() -> None:
    asked = StopAsked()
    Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    _fit(_Endless(asked, deaf=False), asked)
    assert asked.yes


def test_a_second_one_ends_it_at_once() -> None:
    """Even within the half second after which the first is heard; trials are then cut off, not stopped early."""
    asked = StopAsked()
    began = time.monotonic()
    for after in (0.20, 0.25):
        Timer(after, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        _fit(_Endless(asked, deaf=True), asked)
    assert asked.yes
    assert time.monotonic() - began < 5
