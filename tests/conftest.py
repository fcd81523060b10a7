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


@pytest.fixture
def one_thread():
    """For tests of small tensors: there a second thread costs more than it brings, a lot where the
    machine has other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
