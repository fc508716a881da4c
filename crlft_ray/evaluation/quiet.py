"""lm-eval and transformers without a hub, progress bars or chatter."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_and_offline() -> Iterator[None]:
    """No hub, no progress bars, no log lines below errors from lm-eval; as before afterwards."""
    from transformers.utils import logging as transformers_logging

    settings = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    before = {name: os.environ.get(name) for name in settings}
    logger, bars = logging.getLogger("lm_eval"), transformers_logging.is_progress_bar_enabled()
    level = logger.level
    os.environ.update(settings)
    logger.setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
