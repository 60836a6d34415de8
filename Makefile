# Each target sets up what it needs: on a machine with Python 3.11 or newer, `make demo` and `make test` are all there is to type.
# The newest Python that runs and can make environments (a name on the path may be pyenv's, which runs nothing); PYTHON=... is another one.
ifndef PYTHON
PYTHON := $(shell for python in python3.13 python3.12 python3; do \
	$$python -c 'import ctypes, ensurepip, ssl, venv' 2>/dev/null && echo $$python && break; done)
ifeq ($(PYTHON),)
PYTHON := python3
endif
endif
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
# The versions that the project was measured with; other Pythons take what the ranges in pyproject.toml allow.
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d%d" % sys.version_info[:2])')
PINS := $(wildcard constraints-py$(VERSION).txt)

.PHONY: help setup demo test test-slow test-py test-beam setup-export test-export test-parity test-papers test-page test-cluster test-planted test-trackers test-compiled-tpu test-compiled-gpu docs lint bench clean

help:  ## lists the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/'

# One stamp for the environment: it is made again when the dependencies change.
$(VENV)/.ready: pyproject.toml $(PINS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'mtface needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.12'; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet $(addprefix --constraint ,$(PINS)) --editable '.[dev]'
	@touch $@

setup: $(VENV)/.ready  ## creates .venv with mtface and its tools

demo: setup  ## builds the synthetic sets, trains on them, evaluates, draws a sheet of faces (about 5 minutes on two cores)
	$(BIN)/mtface build synthetic_faces/smile_gray48 synthetic_faces/emotion_gray48 synthetic_faces/people_gray48 --data_dir=$(DEMO)/data
	$(BIN)/mtface describe --config=demo --data_dir=$(DEMO)/data
	$(BIN)/mtface train --config=demo --data_dir=$(DEMO)/data --workdir=$(DEMO)/run
	$(BIN)/mtface evaluate --workdir=$(DEMO)/run --data_dir=$(DEMO)/data --sheet
	@echo
	@echo 'Next:'
	@echo '  look at the pictures named above, and: $(BIN)/tensorboard --logdir=$(DEMO)/run   (pip install tensorboard)'
	@echo '  other selections: $(BIN)/mtface evaluate --workdir=$(DEMO)/run --data_dir=$(DEMO)/data --checkpoint=average:4,ensemble:4'
	@echo '  the run as one page: $(BIN)/mtface report --html --workdir=$(DEMO)/run --data_dir=$(DEMO)/data'
	@echo '  your own photographs, with a csv of what is known of them: docs/your_photographs.md'
	@echo '  real faces: docs/datasets.md says how to get and build them; then --config=sang2017:A2'

# A file's tests stay together: they share what was trained once. What takes longest, whole runs that are killed
# or made over several processes and the papers' configs trained for some steps, has a target of its own; the runs of
# several processes wait for each other.
SLOW := tests/end_to_end/test_bad_input.py tests/end_to_end/test_calls.py tests/end_to_end/test_cores.py tests/end_to_end/test_crossval.py tests/end_to_end/test_devices.py \
	tests/end_to_end/test_resume.py tests/end_to_end/test_stages.py tests/configs/test_papers.py tests/configs/test_pons.py \
	tests/configs/test_savchenko.py tests/configs/test_zhang.py tests/launch/test_local.py tests/parallel/test_doctor.py
PROCESSES := tests/end_to_end/test_processes.py
test: setup lint  ## lint, types and tests (a quarter of an hour on two cores)
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile $(addprefix --ignore=,$(SLOW) $(PROCESSES))

test-slow: setup  ## whole runs: killed and gone on, over several processes, and the papers' configs
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile $(SLOW)
	$(BIN)/python -m pytest $(PROCESSES)

# Python 3.11 has an older JAX than newer Pythons: what is computed is tested on both.
NUMERIC := tests/models tests/models/test_selfcheck.py tests/test_losses.py tests/test_metrics.py tests/training/test_step.py tests/training/test_optim.py tests/training/test_loop.py \
	tests/training/test_checkpoints.py tests/end_to_end/test_devices.py tests/end_to_end/test_resume.py
test-py:  ## the tests of what is computed on another Python, in an environment of its own: make test-py PYTHON=python3.11
	$(MAKE) setup VENV=.venv-py$(VERSION) PYTHON='$(PYTHON)'
	.venv-py$(VERSION)/bin/python -m pytest --numprocesses=2 --dist=loadfile $(NUMERIC)

# Apache Beam holds back versions of other packages.
.venv-beam/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-beam
	.venv-beam/bin/pip install --quiet --upgrade pip
	.venv-beam/bin/pip install --quiet --editable '.[test,beam]'
	@touch $@

test-beam: .venv-beam/.ready  ## builds sets with Apache Beam on this machine, in an environment of its own
	.venv-beam/bin/python -m pytest tests/beam

# PyPI's PyTorch comes with CUDA, 7 GB; TORCH_INDEX= may name the index of its builds for CPUs.
TORCH_INDEX ?=
.venv-parity/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-parity
	.venv-parity/bin/pip install --quiet --upgrade pip
	.venv-parity/bin/pip install --quiet $(addprefix --extra-index-url ,$(TORCH_INDEX)) --editable '.[test,parity]'
	@touch $@

test-parity: .venv-parity/.ready  ## compares the backbones with timm's and with plain PyTorch, in an environment of its own
	.venv-parity/bin/python -m pytest tests/parity tests/benchmarks/test_peers.py

# Two training steps of every row of Zhang 2016 and Pons 2018, at their own depth; killed steps.
test-papers: setup  ## trains every row of two papers' tables for two steps (half an hour on two cores)
	MTFACE_TEST_PAPERS=1 $(BIN)/python -m pytest --numprocesses=2 --timeout=1200 tests/configs/test_pons.py tests/configs/test_zhang.py

# jax2onnx holds back orbax; `mtface export --format=onnx` finds the environment here.
.venv-export/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-export
	.venv-export/bin/pip install --quiet --upgrade pip
	.venv-export/bin/pip install --quiet --group converter
	@touch $@

setup-export: setup .venv-export/.ready  ## creates .venv-export, which mtface export --format=onnx needs, and adds onnxruntime to .venv
	$(BIN)/pip install --quiet --editable '.[dev,export]'

test-export: setup-export  ## all networks as ONNX and StableHLO; the examples of docs/deployment.md (Debian packages nodejs and npm)
	npm install --silent --no-audit --no-fund --ignore-scripts --prefix .node onnxruntime-web@1.30.0
	$(BIN)/python -m pytest tests/publish/test_program.py tests/publish/test_export.py tests/publish/test_deployment.py

# npm's packages lie in a folder of their own.
test-page: setup  ## the demo page in headless Chromium (Debian packages nodejs, npm and chromium)
	$(BIN)/pip install --quiet --editable '.[dev,export]' 'scikit-image>=0.25'
	npm install --silent --no-audit --no-fund --ignore-scripts --prefix .node playwright-core@1.65.1
	MTFACE_PLAYWRIGHT=$(CURDIR)/.node $(BIN)/python -m pytest tests/publish/test_page_browser.py

# State and jobs of the cluster lie in a folder of its own; `run` ends it whatever the tests do.
test-cluster: setup  ## tests on a real Slurm, started here and stopped again (Debian packages slurm-wlm and munge; installed as root if missing), and of 8 processes
	tests/cluster/slurm.sh install
	MTFACE_SLURM_DIR=$$(mktemp -d) MTFACE_TEST_CLUSTER=1 tests/cluster/slurm.sh run $(BIN)/python -m pytest tests/cluster \
		'tests/end_to_end/test_processes.py::test_another_number_of_processes_goes_on_with_the_same_batches[8-1]'

test-planted: setup  ## plants bugs in a copy, one at a time, and names the tests that notice each (ROWS= some of them)
	$(BIN)/python tests/planted/plant.py $(ROWS)

.venv-trackers/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-trackers
	.venv-trackers/bin/pip install --quiet --upgrade pip
	.venv-trackers/bin/pip install --quiet --editable '.[test,trackio,wandb]'
	@touch $@

test-trackers: .venv-trackers/.ready  ## logs to trackio and to wandb, both on this machine alone, in an environment of its own
	.venv-trackers/bin/python -m pytest tests/training/test_trackers.py

# libtpu compiles for TPUs on any machine; CUDA's plugin for GPUs, with all of CUDA.
.venv-tpu/.ready .venv-gpu/.ready: .venv-%/.ready: pyproject.toml $(PINS)
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/pip install --quiet --upgrade pip
	.venv-$*/bin/pip install --quiet $(addprefix --constraint ,$(PINS)) --editable '.[test,$(subst gpu,cuda,$*)]'
	@touch $@

test-compiled-tpu: .venv-tpu/.ready  ## the training step compiled for a TPU slice: traffic, scatters, all-reduces (libtpu, 134 MB)
	.venv-tpu/bin/python -m pytest tests/compiled/test_bounds.py

test-compiled-gpu: .venv-gpu/.ready  ## the same for eight H100s (CUDA, 5.5 GB; no GPU is needed)
	.venv-gpu/bin/python -m pytest tests/compiled/test_bounds.py

.venv-docs/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install --quiet --upgrade pip
	.venv-docs/bin/pip install --quiet --editable '.[test,docs]'
	@touch $@

docs: .venv-docs/.ready  ## builds the documentation into site/, and checks its links; python -m http.server --directory site shows it
	.venv-docs/bin/zensical build --clean --strict
	.venv-docs/bin/python -m pytest tests/test_site.py tests/test_documents.py

lint: setup  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy mtface launch

# BENCH= further flags, as --tiny or --only=train_step,inference (docs/benchmarks.md).
MINUTES ?= 120
bench: .venv-parity/.ready  ## all benchmarks beside PyTorch, onnxruntime and grain, in MINUTES=; the same command goes on
	.venv-parity/bin/python -m benchmarks.run --minutes=$(MINUTES) $(BENCH)

clean:  ## removes the environments and the demo
	rm -rf $(VENV) .venv-py* .venv-beam .venv-parity .venv-export .venv-docs .venv-trackers .venv-tpu .venv-gpu .node $(DEMO) site .cache
