# The commands of the course. Each sets up what it needs. Written for GNU make 3.81, which macOS has.
SHELL = /bin/sh
.DEFAULT_GOAL = help
.PHONY: help setup lab test notebooks check bench slides preflight site

# The first of these that runs, and is a Python that fits, is taken: a name on PATH proves nothing.
PYTHON = .venv/bin/python python3.11 python3.12 python3.13 python3 python
RUN = .venv/bin/python
FIRST = /lab/tree/notebooks/00_start_here.ipynb
# Models this small are faster on one thread, and on a busy machine many times faster.
OMP_NUM_THREADS ?= 1
export OMP_NUM_THREADS
say = printf '\n== %s\n'
# Learners may have no network: where it can be cut, the course is tested without one. What builds
# the site and the slides may have to be fetched, and is tested before, with it.
ALONE = $(RUN) tools/offline.py $(RUN)
# The site's tests take longest: in the order of files, they begin first.
BY_FILE = --dist=loadfile --no-loadscope-reorder
IN_LAB = $(addprefix tests/browser/test_,mishaps.py notebooks.py panels.py)

help:
	@echo "make lab             open the course in JupyterLab (ARGS= more arguments for JupyterLab)"
	@echo "make preflight       try all that a session needs, the day before"
	@echo "make test            run every check"
	@echo "make check           run the checks that take seconds"
	@echo "make notebooks       run all notebooks anew and save them (NB=01: only that one)"
	@echo "make bench           compare the samplers with those of other libraries (ARGS=--save)"
	@echo "make slides          write the chapters as slides into build/slides/ (NB=01: only that one)"
	@echo "make site            build the course as a static site, which needs no kernel, in build/site"
	@echo
	@echo "Each sets up .venv the first time. PYTHON=python3.12 names the Python to do it with."

setup:
	@for python in $(PYTHON); do \
	  if "$$python" tools/preflight.py --fits >/dev/null 2>&1; then \
	    exec "$$python" tools/install.py; \
	  fi; \
	done; \
	echo "No Python 3.11, 3.12 or 3.13 runs here (tried: $(PYTHON))." \
	  "Install one from python.org, or name it: make lab PYTHON=/path/to/python3.11" >&2; \
	exit 1

lab: setup
	@$(RUN) tools/preflight.py
	@$(RUN) -m jupyterlab --LabApp.default_url=$(FIRST) $(ARGS)

preflight: setup
	@$(RUN) tools/day_before.py

notebooks: setup
	@$(RUN) tools/notebooks.py $(NB)
	@$(RUN) tools/cheat_sheet.py

slides: setup
	@$(RUN) tools/slides.py $(NB)

site: setup
	@$(RUN) tools/install.py --site
	@$(RUN) tools/build_site.py

check: setup
	@$(say) "ruff"
	@$(RUN) -m ruff check
	@$(RUN) -m ruff format --check
	@$(say) "notebooks as saved"
	@$(RUN) tools/notebooks.py --check
	@$(say) "module order"
	@$(RUN) -m pytest -q tests/test_module_order.py

test: setup
	@$(RUN) tools/install.py --site
	@$(say) "ruff: check"
	@$(RUN) -m ruff check
	@$(say) "ruff: format"
	@$(RUN) -m ruff format --check
	@rm -rf tests/browser/screenshots
	@$(say) "unit tests, site and slides"
	@$(RUN) -m pytest -q -n auto --maxprocesses=4 $(BY_FILE) $(addprefix --ignore=,$(IN_LAB))
	@$(say) "examples in docstrings"
	@$(RUN) -m pytest -q --doctest-modules course_utils
	@$(say) "exercises"
	@$(RUN) -m course_utils.exercises --audit
	@$(say) "notebooks"
	@$(ALONE) -m pytest -q -p tests.nbval_report --nbval --nbval-current-env --nbval-cell-timeout=120 \
	  --nbval-sanitize-with tests/nbval_sanitize.cfg notebooks
	@$(say) "notebooks in JupyterLab"
	@$(ALONE) -m pytest -q $(IN_LAB)

# What the comparison needs beyond the course lies in a folder of its own, so that .venv stays as it
# is. Exact versions without their dependencies, or pip would fetch torch once more, with CUDA.
bench: setup
	@$(MAKE) -s .bench/ready
	@PYTHONPATH=.bench $(RUN) benchmarks/samplers.py $(ARGS)

.bench/ready: benchmarks/requirements.txt .venv/course.json
	$(say) "installing the other libraries into .bench, once"
	rm -rf .bench
	$(RUN) -m pip install -q --disable-pip-version-check --no-deps --target .bench -r $<
	PYTHONPATH=.bench $(RUN) -m pip check --disable-pip-version-check
	touch $@
