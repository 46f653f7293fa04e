# Every target does its own set-up; a second run finds it done.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.set-up

.PHONY: setup demo demo-bucket run test check bench faults lock

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Endtape needs Python 3.11 or newer; set PYTHON=/path/to/it"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Setting up .venv (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: $(STAMP)
	@$(BIN)/endtape demo

# The same, with the archive in a bucket of moto's S3 server. ENDTAPE_ARCHIVE=s3://… and AWS_* do it with a real one.
demo-bucket: $(STAMP)
	@$(BIN)/python -m faults.bucket $(BIN)/endtape demo

run: $(STAMP)
	@$(BIN)/endtape run

test: $(STAMP)
	@$(BIN)/python -m pytest -q

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo
	@$(MAKE) --no-print-directory test
	@$(BIN)/python -m pytest -q --redis other -m "redis and not end_to_end"
	@$(BIN)/python -m pytest -q --hypothesis-profile long -m hypothesis
	@$(BIN)/python -m faults.run --short
	@$(BIN)/python benchmarks/run.py --small

bench: $(STAMP)
	@$(BIN)/python benchmarks/run.py

# RUN="t2 t3" plays only these, SEED=7 repeats one, TIMES=10 plays it ten times; docs/reliability.md tells of them.
faults: $(STAMP)
	@$(BIN)/python -m faults.run $(RUN) $(if $(SEED),--seed $(SEED)) $(if $(TIMES),--times $(TIMES))

# The lock names packages and versions, never a place to get them from.
lock:
	$(BIN)/pip-compile --quiet --strip-extras --allow-unsafe --no-header --no-annotate --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--extra dev --extra embedded --extra postgresql --extra bench --output-file requirements.lock pyproject.toml
