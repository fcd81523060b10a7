"""What several test files share."""

import pytest
import torch

from cfd_course import NoiseSchedule

torch.set_num_threads(2)


@pytest.fixture(params=["linear", "scaled_linear", "cosine"])
def kind(request):
    """How a NoiseSchedule of each kind is made: kind(steps=1000)."""
    return getattr(NoiseSchedule, request.param)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
