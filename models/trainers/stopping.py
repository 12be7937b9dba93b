"""Ctrl-C and SIGTERM while a model is trained: the first one saves and stops, the second one interrupts."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Iterator

from models.trainers.loop import Trainer

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def stop_on_signal(trainer: Trainer) -> Iterator[None]:
    """Lets the first Ctrl-C or SIGTERM ask the trainer to save and stop; the second one interrupts at once."""

    def request(number: int, frame: object) -> None:  # noqa: ARG001
        if not trainer.stop_signal:
            logger.info("stopping after this step, then saving; once more stops at once")
            trainer.stop_signal = number
        elif "RANK" not in os.environ:  # a launcher passes on what a batch system has sent to all already
            raise KeyboardInterrupt

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
