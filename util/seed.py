"""Random numbers that depend on a seed and a place, never on the order of calls."""

from __future__ import annotations

import numpy as np


def generator_for(seed: int, *place: int) -> np.random.Generator:
    """A numpy generator of its own for each (seed, place), e.g. `generator_for(seed, frame)`.

    Same arguments, same stream, on every platform and in every process.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed & 0xFFFFFFFFFFFFFFFF, *place])))
