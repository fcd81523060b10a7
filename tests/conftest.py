"""What several test files share."""

import shutil
import subprocess

import pytest
import torch
from torch import nn

from cfd_course import NoiseSchedule, Unet
from cfd_course.checks import questions

torch.set_num_threads(2)

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = [
    "--no-sandbox",  # it is not to be had as root, as which CI runs; only our own pages are opened
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def small_network(seed: int = 0, width: int = 8) -> Unet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Unet(1, (width, 16), token_encoder=nn.Embedding(3, 8), heads=2)


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Bit for bit."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


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


@pytest.fixture
def unhurried(monkeypatch):
    """For tests of what checks say: a slow machine has as many questions to ask as a fast one."""
    monkeypatch.setattr(questions, "SECONDS", 20 * questions.SECONDS)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of some kilobytes, and a function that fills it up but for so many."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=16000k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("only root may mount a small disk, and not in every container")

    def fill(left: int) -> None:
        filling = folder / ".filling"
        filling.unlink(missing_ok=True)
        free = shutil.disk_usage(folder).free
        filling.write_bytes(bytes(max(0, free - 1000 * left)))

    yield folder, fill
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page of headless Chromium."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser was found: install one of {', '.join(BROWSERS)}")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is missing: install the extra test"
    )
    with playwright.sync_playwright() as driver:
        context = driver.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("browser"),
            executable_path=browser,
            headless=True,
            args=FLAGS,
            viewport={"width": 1200, "height": 900},
        )
        yield context.pages[0]
        context.close()
