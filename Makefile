# make serve     the service on port 8000; WEIGHTS=path (path:path averages several), PORT=number choose others.
#                On a CPU it is run by OpenVINO, and takes a minute to install; where there is an NVIDIA GPU by
#                PyTorch, which takes some minutes: SERVE=cpu or SERVE=gpu chooses otherwise
# make test      the tests; JOBS=number says how many at once, TESTS="..." which, as pytest takes them
# make test-exhaustive  those that `make test` leaves out: long tables, kills, the wheel
# make check     linter, formatter and type checker, all read-only
# make training  what the scripts of training/ need besides, in .venv (make test brings it too)
# make peers     what benchmarks measure against: OpenCV's contrib build in .venv/peers, LitServe
# make benchmarks DATA=path  measures all that docs/benchmarks.md shows (hours; a quiet machine), then writes it;
#                path holds PASCAL VOC, ILSVRC=path a folder with ILSVRC/, RUNS="name name" chooses
# make benchmarks-page  writes docs/benchmarks.md anew from benchmarks/runs
# make docs      the documentation as a site, in build/site/index.html
# make fuzz      schemathesis against a running service for five minutes
# make clean     remove .venv and everything else that these made
#
# .venv is set up when first needed and again when pyproject.toml or constraints.txt change.
# PYTHON=python3.12 chooses the interpreter that .venv is made with (3.11 to 3.13).

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c

PYTHON ?= python3
JOBS ?= $(shell expr $$(nproc) + 1)
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -u -m pip install --disable-pip-version-check -c constraints.txt

# What pip says, shortened to what takes time, line by line (awk and sed may keep lines back).
SHORTLY := while read -r what name rest; do case "$$what $$rest" in \
  Downloading*MB*) echo "  downloading $$name $$rest";; \
  "Installing packages: "*) echo "  unpacking" $$(($$(wc -w <<< "$$rest") - 1)) "packages";; esac; done

.DEFAULT_GOAL := help
.PHONY: help serve test test-exhaustive check training peers benchmarks benchmarks-page docs fuzz clean
.NOTPARALLEL:

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

# Which of the two: PyTorch where a driver for NVIDIA's GPUs is found.
SERVE ?= $(if $(wildcard /proc/driver/nvidia/version /dev/dxg),gpu,cpu)

serve: $(VENV)/.serve-$(SERVE)
	@echo "Starting the service: it loads the weights, and the log says Ready."
	$(if $(WEIGHTS),DETECTOR_WEIGHTS='$(WEIGHTS)') $(if $(PORT),DETECTOR_PORT='$(PORT)') $(BIN)/python -P -m api

# One thread for each process of tests: more would only get in each other's way. One process more than there
# are cores, since some tests wait.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test: $(VENV)/.dev
	$(PYTEST) -m 'not exhaustive' $(TESTS)

test-exhaustive: $(VENV)/.dev
	$(PYTEST) -m exhaustive $(TESTS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

training: $(VENV)/.training

# The pages lie as in the repository, so that their links hold on both.
SITE_SOURCE := build/site-source
docs: $(VENV)/.docs
	rm -rf $(SITE_SOURCE) build/site
	mkdir -p $(SITE_SOURCE)/docs
	cp -r *.md CITATION.cff LICENSE examples $(SITE_SOURCE)
	cp docs/*.md docs/*.png $(SITE_SOURCE)/docs
	$(BIN)/zensical build --strict --clean

# The page shows what there is, whatever failed.
benchmarks: $(VENV)/.dev
	$(if $(DATA),,$(error DATA names no folder with PASCAL VOC: make benchmarks DATA=VOCdevkit/VOC2007))
	status=0; \
	$(BIN)/python benchmarks/run_all.py --data '$(DATA)' $(if $(ILSVRC),--ilsvrc '$(ILSVRC)') \
	  $(addprefix --run ,$(RUNS)) || status=$$?; \
	$(BIN)/python benchmarks/page.py && exit $$status

benchmarks-page: $(VENV)/.dev
	$(BIN)/python benchmarks/page.py

fuzz: $(VENV)/.dev
	$(BIN)/python benchmarks/fuzz.py

peers: $(VENV)/.peers

clean:
	rm -rf $(VENV) *.egg-info build dist .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# A stamp is written last, so that a step cut short is done again.

# What is large, with what it needs beside NumPy: installed while numba is.
LARGE := openvino openvino-telemetry onnx ml_dtypes protobuf typing_extensions

# Whoever has installed everything for tests has the service too.
$(VENV)/.serve-%: $(VENV)/.made pyproject.toml constraints.txt
	@$(if $(filter cpu gpu,$*),true,echo "SERVE is cpu or gpu, not $*" >&2; exit 1)
	@if [ $* = cpu ]; then \
	  echo "Installing the service for the CPU into $(VENV): OpenVINO runs the network, 0.75 GB in all."; \
	  echo "(make serve SERVE=gpu takes PyTorch, for an NVIDIA GPU.)"; \
	else \
	  echo "Installing the service for the GPU into $(VENV): PyTorch, some minutes and gigabytes the first time."; \
	  echo "(make serve SERVE=cpu takes OpenVINO, 0.75 GB.)"; \
	fi
	@# Two at once, since pip keeps one core busy: what is done early or fails there is found, or done, by the
	@# last pip and at the start. Of numba's many modules few are ever imported.
	@$(PIP_INSTALL) --no-deps $(LARGE) 2> /dev/null | $(SHORTLY) & \
	  $(PIP_INSTALL) --no-compile numba opencv-python-headless pillow | $(SHORTLY); wait
	@PYTHONDONTWRITEBYTECODE= PYTHONPATH=. $(BIN)/python -P -m detector.precompile & \
	  $(PIP_INSTALL) -e '.[serve-$*]' | $(SHORTLY) && wait
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing everything, tests and checks included, into $(VENV): some minutes the first time."
	@$(PIP_INSTALL) -e '.[dev]' | $(SHORTLY)
	@touch $@

# The contrib build and the plain one cannot live in one environment: it gets a folder of its own.
$(VENV)/.training: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing what training needs into $(VENV): some minutes the first time."
	@$(PIP_INSTALL) -e '.[training]' | $(SHORTLY)
	@touch $@

$(VENV)/.docs: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing what makes the site into $(VENV)."
	@$(PIP_INSTALL) -e '.[docs]' | $(SHORTLY)
	@touch $@

$(VENV)/.peers: $(VENV)/.dev
	rm -rf $(VENV)/peers
	$(BIN)/python -m pip install --quiet --no-deps --target $(VENV)/peers \
	  opencv-contrib-python-headless==$$(sed -n 's/^opencv-python-headless==//p' constraints.txt)
	@$(PIP_INSTALL) -e '.[peers]' | $(SHORTLY)
	@touch $@

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { \
	  echo "Python 3.11, 3.12 or 3.13 is needed; $(PYTHON) is: $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; \
	  exit 1; }
	@echo "Making an environment of its own in $(VENV)."
	$(PYTHON) -m venv $(VENV)
	@touch $@
