# Everything here works in a fresh clone: each target first installs what it lacks into .venv.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
XAITK := .venv-xaitk
RLLIB := .venv-rllib
ARGS ?=

.PHONY: help demo test test-pages test-parts rllib check format bench clean chromium

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/viewer,atari.stamp ## Watch a trained agent play Enduro in the browser (ARGS="--policy novice")
	$(BIN)/agentwrap demo $(ARGS)

test: $(VENV)/dev.stamp chromium ## Run all tests (ARGS="-k wrapper -x")
ifeq ($(ARGS),)
	@echo "make: running the tests, two runs at a time; what each prints comes when it has ended"
	@$(MAKE) --no-print-directory -j2 -Otarget test-pages test-parts rllib
else
	$(BIN)/python -m pytest $(ARGS)
endif

# What waits for browsers and processes runs beside what computes.
test-pages: $(VENV)/dev.stamp
	$(BIN)/python -m pytest tests/e2e tests/test_*.py

test-parts: $(VENV)/dev.stamp
	$(BIN)/python -m pytest --ignore=tests/e2e --ignore-glob='tests/test_*.py'

rllib: $(RLLIB)/stamp ## Run the tests of RLlib, which pins other versions, in an environment of their own
	$(RLLIB)/bin/python -m pytest -c tests/rllib/pytest.ini tests/rllib

check: $(VENV)/dev.stamp ## Lint, format check, strict types, layers, and that what is public is documented
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py tests/test_readme.py

format: $(VENV)/dev.stamp ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/bench.stamp $(XAITK)/stamp chromium ## Measure what it costs: a table, then JSON lines (ARGS="--quick")
	$(BIN)/python -m benchmarks $(ARGS)

clean: ## Remove the environment and what was built or cached
	rm -rf $(VENV) $(XAITK) $(RLLIB) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is older than pyproject.toml or constraints.txt when an extra or a pin has changed: then pip looks again.
$(VENV)/%.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); \
	  echo "make: no virtual environment could be made (on Debian: apt-get install python3-venv)" >&2; exit 1; }
	@echo "make: installing agentwrap-rl[$*] and what it needs into $(VENV): a few minutes the first time"
	$(BIN)/python -m pip uninstall -qq --yes pygame  # an older extra's, whose files pygame-ce would share
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[$*]"
	touch $@

# XAITK-Saliency wants a Pillow that MoviePy refuses: it has an environment of its own, which finds all else in ours.
$(XAITK)/stamp: $(VENV)/bench.stamp
	$(BIN)/python -m venv $(XAITK)
	$(XAITK)/bin/python -m pip install --quiet --constraint constraints.txt 'xaitk-saliency==0.15.0'
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  > "$$($(XAITK)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/ours.pth"
	touch $@

# RLlib 2.60 pins Gymnasium 1.2.2, while the rest runs on the newest: what is tested here is that both will do.
$(RLLIB)/stamp: pyproject.toml constraints.txt
	test -x $(RLLIB)/bin/python || $(PYTHON) -m venv $(RLLIB)
	$(RLLIB)/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[rllib]" \
	  "ray[rllib]==2.60.0" "pytest>=8.3" "pytest-timeout>=2.3"
	touch $@

# The browser tests drive a Chromium that is installed on the system; nothing is downloaded past the package manager.
chromium:
	@if command -v chromium >/dev/null; then exit 0; fi; \
	if ! command -v apt-get >/dev/null; then \
	  echo "make: the browser tests need Chromium as 'chromium' on PATH: install it and run this again" >&2; exit 1; fi; \
	if [ "$$(id -u)" = 0 ]; then as_root=""; \
	elif command -v sudo >/dev/null; then as_root="sudo"; \
	else echo "make: run this as root, then again: apt-get install chromium" >&2; exit 1; fi; \
	echo "make: installing Debian's chromium"; \
	$$as_root apt-get update -qq; \
	DEBIAN_FRONTEND=noninteractive $$as_root apt-get install -y -qq --no-install-recommends chromium
