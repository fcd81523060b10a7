"""Whether decisions were drawn as coins are: each by itself."""

import torch
from torch import Tensor


def no_pattern(row: Tensor) -> bool:
    """Whether no example's fate tells another's: the row [B], bool, is like itself moved by some
    number of places nowhere. One coin for two neighbours, for each half of the batch or for every
    tenth example is like that, and so are decisions that come in an order. Of 8,000 fair coins the
    largest of these correlations is about 0.05; where less than some 300 are True, chance alone
    can take it beyond 0.1."""
    wave = torch.fft.rfft(row.double() - row.double().mean())
    alike = torch.fft.irfft(wave.abs().square(), n=len(row))
    return bool((alike[1:].abs() < 0.1 * alike[0]).all())


def left_to_chance(row: Tensor, probability: float) -> bool:
    """Whether the count of True is another than what the probability makes of the batch: coins hit
    that exactly once in 400 times for 200,000 examples, and a permutation always does."""
    return abs(int(row.sum()) - probability * len(row)) >= 1
