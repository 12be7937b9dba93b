"""What the log of a run is made of: averages of losses, images a second, and the clips that could not be read."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

from models.trainers.base import Batch

logger = logging.getLogger(__name__)


class Meter:
    """Counts what happens between two lines of the log; clips that could not be read over the whole run."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._steps = 0
        self._images = 0
        self._since = time.monotonic()
        self._skipped: set[str] = set()
        self.images_per_s = 0.0

    def add(self, losses: Mapping[str, float], images: int) -> None:
        """Takes in a step."""
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._steps += 1
        self._images += images
        self.images_per_s = self._images / max(time.monotonic() - self._since, 1e-9)

    def take(self) -> dict[str, float]:
        """The averages since the last call."""
        means = {name: total / self._steps for name, total in self._sums.items()}
        self._sums, self._steps, self._images, self._since = {}, 0, 0, time.monotonic()
        return means

    def add_skipped(self, batches: Sequence[Batch]) -> None:
        """Names the clips that others took the place of, each once."""
        for path in (path for batch in batches for path in batch.get("skipped", ())):
            if path not in self._skipped:
                logger.warning("%s: cannot be read; another clip takes its place", path)
            self._skipped.add(path)

    def report_skipped(self) -> None:
        """Says at the end how many clips could not be read."""
        if self._skipped:
            logger.warning("%d clips could not be read: %s", len(self._skipped), ", ".join(sorted(self._skipped)[:5]))
