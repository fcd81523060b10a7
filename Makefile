# make lab    open the course in JupyterLab
# make test   check everything, notebooks included; make test TESTS=tests/test_words.py a part of it
# make reset LESSON=03_building_the_unet    start one lesson over (your copy of it is overwritten)
# make site    build the course as pages to read, in build/site/_build/html
# make slides    the lessons as slides to show, in build/slides
# make notebooks    run the reference notebooks again and save their outputs (for maintainers)

# The first Python that is new enough; `make lab PYTHON=...` names another.
PYTHON ?= $(shell for each in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$each && break; done)
# Say, LAB='--no-browser --port 8889'
LAB ?=
# JupyterLab refuses root, which is who one is in a container, unless it is told.
ROOT := $(if $(filter 0,$(shell id -u 2>/dev/null)),--allow-root)
BIN := .venv/bin
UV := $(shell command -v uv 2>/dev/null || true)
INSTALL := $(if $(UV),$(UV) pip install --python $(BIN)/python,$(BIN)/python -m pip install) \
	--constraint constraints.txt --editable

.PHONY: lab test reset site slides notebooks
.DELETE_ON_ERROR:

lab: .venv/learner
	$(BIN)/python -m cfd_course copies --to my_course
	$(BIN)/jupyter lab $(ROOT) $(LAB) my_course

test: .venv/tester
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest $(TESTS)

reset: .venv/learner
	@test -n "$(LESSON)" || { echo "Say which lesson: make reset LESSON=01_forward_noising"; exit 1; }
	$(BIN)/python -m cfd_course copies --to my_course --only "$(LESSON)" --force

site: .venv/tester
	$(BIN)/python docs/site/make.py

slides: .venv/tester
	$(BIN)/python docs/slides/make.py

notebooks: .venv/tester
	$(BIN)/python -m tests.execute_notebooks

# The files learner and tester in .venv are stamps: they say that the installation is done.
.venv/learner: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing into .venv. The first time downloads up to 3 GB: some minutes."
	$(INSTALL) .
	@touch $@

.venv/tester: .venv/learner
	$(INSTALL) ".[test,teach,text,site]"
	@touch $@

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "The course needs Python 3.11 or newer, and found none."; exit 1; }
	@if test -n "$(UV)"; then $(UV) venv --seed --python "$(PYTHON)" .venv; \
	elif $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then $(PYTHON) -m venv .venv; \
	else echo "$(PYTHON) cannot make an environment. On Debian and Ubuntu: sudo apt install" \
		"$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"; exit 1; fi
