"""A real browser steps through lessons in JupyterLab: runs all cells, moves a slider by keyboard,
and sees the picture change."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from cfd_course.classroom import lessons, without_solutions
from tests.execute_notebooks import METADATA

READY = "Python 3 (ipykernel) | Idle"  # in the status bar; without a kernel it says "No Kernel"
OUTPUTS = ".jp-OutputArea"  # of a cell
PICTURE = f"{OUTPUTS} img"
SLIDER = ".widget-slider .noUi-handle"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab with folders of its own: its working folder and its address."""
    home = tmp_path_factory.mktemp("lab")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folders = {
        name: home / name for name in ("config", "data", "settings", "workspaces", "runtime")
    }
    for folder in (*folders.values(), home / "course"):
        folder.mkdir()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"]
    command += ["--ServerApp.port_retries=0", "--IdentityProvider.token="]
    command += [f"--LabApp.user_settings_dir={folders['settings']}"]
    command += [f"--LabApp.workspaces_dir={folders['workspaces']}"]
    # No question about news over the page, and nothing fetched from outside.
    command += ["--LabApp.news_url=None"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(folders["config"]),
        "JUPYTER_RUNTIME_DIR": str(folders["runtime"]),
        "JUPYTER_DATA_DIR": str(folders["data"]),
    }
    log = home / "log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [*command, str(home / "course")], env=environment, stdout=output, stderr=output
        )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{address}/api/status", server, log)
        yield home / "course", address
    finally:
        server.terminate()
        server.wait(600)


def _wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(1200):
        assert server.poll() is None, log.read_text(encoding="utf-8")
        try:
            json.load(urllib.request.urlopen(address, timeout=5))
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"JupyterLab did not start:\n{log.read_text(encoding='utf-8')}")


def step_through(page, lab, notebook: nbformat.NotebookNode, name: str, patience=600) -> None:
    """Open the notebook, run all cells, move the first slider, and expect another picture within
    `patience` seconds, and no error."""
    folder, address = lab
    nbformat.write(notebook, folder / name)
    errors: list[str] = []

    def on_console(message):
        if message.type == "error":
            errors.append(f"{message.text} ({message.location.get('url')})")

    def on_page_error(error):
        errors.append(str(error))

    page.on("console", on_console)
    page.on("pageerror", on_page_error)
    try:
        page.goto(f"{address}/lab/tree/{name}?reset", timeout=600_000)
        page.get_by_text(READY).wait_for(timeout=600_000)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        last = sum(cell.cell_type == "code" for cell in notebook.cells)
        # The prompt of the last code cell gets its number when it has run.
        page.get_by_text(f"[{last}]:", exact=True).first.wait_for(state="attached", timeout=600_000)
        page.get_by_text(READY).wait_for(timeout=600_000)

        beside = page.locator(OUTPUTS).filter(has=page.locator(SLIDER)).first
        picture = beside.locator("img").first
        picture.wait_for(timeout=600_000)
        before = _bytes(page, picture)
        beside.locator(SLIDER).first.focus()
        page.keyboard.press("ArrowRight")
        deadline = time.monotonic() + patience
        while _bytes(page, picture) == before and time.monotonic() < deadline:
            page.wait_for_timeout(100)
        assert _bytes(page, picture) != before, "the slider moved, the picture did not change"
        assert errors == []
    finally:
        page.remove_listener("console", on_console)
        page.remove_listener("pageerror", on_page_error)


def _bytes(page, picture) -> list[int]:
    """The picture's own bytes: its address is a new one with each redraw."""
    return picture.evaluate(
        "async image => Array.from(new Uint8Array(await (await fetch(image.src)).arrayBuffer()))"
    )


SMALL = """
from matplotlib.figure import Figure
from cfd_course import widgets

def draw(t):
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([0, t])
    return figure

_ = widgets.interactive(draw, "a line", t=(1, 10, 3))
"""


def small(source: str) -> nbformat.NotebookNode:
    return new_notebook(cells=[new_code_cell("1"), new_code_cell(source)], metadata=METADATA)


def test_interactive_picture_answers(page, lab):
    step_through(page, lab, small(SMALL), "small.ipynb")


def test_a_saved_notebook_opened_again_shows_its_picture(page, lab):
    """By then its kernel is gone, and so is what the sliders were."""
    folder, address = lab
    notebook = small(SMALL)
    NotebookClient(notebook, timeout=600, kernel_name="python3", store_widget_state=False).execute()
    nbformat.write(notebook, folder / "saved.ipynb")
    # JupyterLab trusts what one ran and saved oneself.
    command = [sys.executable, "-m", "jupyter", "trust", str(folder / "saved.ipynb")]
    environment = os.environ | {"JUPYTER_DATA_DIR": str(folder.parent / "data")}
    subprocess.run(command, env=environment, check=True)
    page.goto(f"{address}/lab/tree/saved.ipynb?reset", timeout=600_000)
    page.get_by_text(READY).wait_for(timeout=600_000)
    page.locator(PICTURE).wait_for(timeout=600_000)
    page.wait_for_timeout(5_000)  # after two seconds JupyterLab gives the sliders up
    assert "not found" not in page.locator(".jp-Notebook").inner_text()


def test_a_dead_picture_and_an_error_are_seen(page, lab):
    with pytest.raises(AssertionError, match="the picture did not change"):
        step_through(page, lab, small(SMALL.replace("[0, t]", "[0, 1]")), "dead.ipynb", patience=5)
    shout = "from IPython.display import Javascript, display\n"
    shout += "display(Javascript('console.error(\"broken\")'))"
    with pytest.raises(AssertionError, match="broken"):
        step_through(page, lab, small(f"{SMALL}\n{shout}"), "broken.ipynb")


@pytest.mark.parametrize(
    "path", [p for p in lessons() if p.stem[:2] in ("01", "06")], ids=lambda p: p.stem
)
def test_lesson_in_the_browser(page, lab, path):
    step_through(page, lab, without_solutions(nbformat.read(path, as_version=4)), path.name)
