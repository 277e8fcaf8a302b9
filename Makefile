# The commands of the course. Each sets up what it needs. Written for GNU make 3.81, which macOS has.
SHELL = /bin/sh
.DEFAULT_GOAL = help
.PHONY: help setup lab update test notebooks check claims bench models slides preflight site

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
# What each folder of the package may import is written in pyproject.toml.
ROOMS = .venv/bin/lint-imports --no-cache
# The panels' JavaScript is checked where npm is, which is nothing that a learner needs.
BIOME = build/biome/node_modules/.bin/biome ci --colors=off --config-path=tools/biome
SCRIPT = if command -v npm >/dev/null 2>&1; then $(MAKE) -s build/biome/ready && \
  $(BIOME) course_utils/panels/panel.js; else echo "skipped: npm is not here"; fi
# The site's tests take longest: in the order of files, they begin first.
BY_FILE = --dist=loadfile --no-loadscope-reorder
# Two notebooks at a time: a kernel may take 1 GiB.
BY_TWO = -n auto --maxprocesses=2
IN_LAB = $(addprefix tests/browser/test_,mishaps.py notebooks.py panels.py predict.py tours.py)

help:
	@echo "make lab             open the course in JupyterLab (ARGS= more arguments for JupyterLab)"
	@echo "make update          bring the newest version in, and keep every answer"
	@echo "make preflight       try everything a session needs, the day before"
	@echo "make test            run every check"
	@echo "make check           run the checks that take seconds"
	@echo "make notebooks       run all notebooks again and save them (NB=01: only that one)"
	@echo "make claims          run the notebooks with other kernels, threads and seeds (NB=05,"
	@echo "                     SETTING=avx2, SEEDS=5, ARGS=--list)"
	@echo "make bench           compare samplers and packers with those of others (ARGS=--save)"
	@echo "make models          ask the oracle about public models (ARGS=--save)"
	@echo "make slides          write the chapters as slides into build/slides/ (NB=01: only that one)"
	@echo "make site            build the course as a static site, which needs no kernel, in build/site"
	@echo
	@echo "Each sets up .venv the first time. PYTHON=python3.12 names the Python to do it with."

setup:
	@for python in $(PYTHON); do \
	  if "$$python" tools/doctor.py --fits >/dev/null 2>&1; then \
	    exec "$$python" tools/install.py; \
	  fi; \
	done; \
	echo "No Python 3.11, 3.12 or 3.13 runs here (tried: $(PYTHON))." \
	  "Install one from python.org, or name it: make lab PYTHON=/path/to/python3.11" >&2; \
	exit 1

lab: setup
	@$(RUN) tools/doctor.py --quick
	@$(RUN) -m jupyterlab --LabApp.default_url=$(FIRST) $(ARGS)

# A new version may ask for other packages.
update: setup
	@$(RUN) tools/update.py
	@$(MAKE) -s setup

preflight: setup
	@$(RUN) tools/doctor.py

notebooks: setup
	@$(RUN) tools/notebooks.py $(NB)
	@$(RUN) tools/cheat_sheet.py

# A claim holds on every machine and with every seed: this tries it, for an hour or more.
claims: setup
	@$(RUN) tools/claims.py $(NB) $(if $(SETTING),--setting $(SETTING)) --seeds $(or $(SEEDS),3) $(ARGS)

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
	@$(say) "imports"
	@$(ROOMS)
	@$(say) "panel.js"
	@$(SCRIPT)

# Once, and again where the version that is locked has changed.
build/biome/ready: tools/biome/package-lock.json
	mkdir -p build/biome
	cp tools/biome/package.json tools/biome/package-lock.json build/biome
	npm ci --prefix build/biome --no-audit --no-fund
	touch $@

test: setup
	@$(RUN) tools/install.py --site
	@$(say) "ruff: check"
	@$(RUN) -m ruff check
	@$(say) "ruff: format"
	@$(RUN) -m ruff format --check
	@$(say) "imports"
	@$(ROOMS)
	@$(say) "panel.js"
	@$(SCRIPT)
	@rm -rf tests/browser/screenshots
	@$(say) "unit tests, site and slides"
	@$(RUN) -m pytest -q -n auto --maxprocesses=4 $(BY_FILE) $(addprefix --ignore=,$(IN_LAB))
	@$(say) "examples in docstrings"
	@$(RUN) -m pytest -q --doctest-modules course_utils
	@$(say) "exercises"
	@$(RUN) -m course_utils.exercises --audit
	@$(say) "notebooks"
	@$(ALONE) -m pytest -q $(BY_TWO) --dist=loadfile -p tests.nbval_report --nbval --nbval-current-env --nbval-cell-timeout=600 --nbval-kernel-startup-timeout=300 \
	  --nbval-sanitize-with tests/nbval_sanitize.cfg notebooks
	@$(say) "notebooks that train, in another setting"
	@$(ALONE) tools/claims.py 00 05 06 07 --other --jobs 2
	@$(say) "notebooks in JupyterLab"
	@$(ALONE) -m pytest -q $(BY_TWO) --dist=loadgroup --no-loadscope-reorder $(IN_LAB)

# What the comparison needs beyond the course lies in a folder of its own, so that .venv stays as it
# is. Exact versions without their dependencies, or pip would fetch torch once more, with CUDA.
bench: setup
	@$(MAKE) -s .bench/ready
	@PYTHONPATH=.bench $(RUN) benchmarks/samplers.py $(ARGS)
	@PYTHONPATH=.bench $(RUN) -m benchmarks.packers $(ARGS)

.bench/ready: benchmarks/requirements.txt .venv/course.json
	$(say) "installing the other libraries into .bench, once"
	rm -rf .bench
	$(RUN) -m pip install -q --disable-pip-version-check --no-deps --target .bench -r $<
	PYTHONPATH=.bench $(RUN) -m pip check --disable-pip-version-check
	touch $@

# A family of models that cannot be imported is named in the table, and fails the command: so no
# `pip check`, for some libraries claim narrower ranges than they work in. torchaudio's compiled
# code needs torch with CUDA, and its models are plain Python.
models: setup
	@$(MAKE) -s .models/ready
	@PYTHONPATH=.models $(RUN) -m benchmarks.models $(ARGS)

.models/ready: benchmarks/models-requirements.txt .venv/course.json
	$(say) "installing the libraries of the models into .models, once"
	rm -rf .models
	$(RUN) -m pip install -q --disable-pip-version-check --no-deps --target .models -r $<
	rm -f .models/torchaudio/lib/*.so
	touch $@
