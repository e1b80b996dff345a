# Every command of the project. `make` alone prints this list.
# Works with GNU Make 3.81 (macOS) and newer.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := jobs worker simulator replicate_batch demo benchmarks tests

.DEFAULT_GOAL := help

# Options count only when given on make's own command line, not when the environment happens to have them. They reach
# the shell in single quotes, so that spaces, quotes, `$` and `;` in them are harmless.
quote = '$(subst ','\'',$(1))'
given = $(filter command,$(origin $(1)))
argument = $(if $(call given,$(1)),$(call quote,$(value $(1))))
option = $(if $(call given,$(1)),$(2)=$(call quote,$(value $(1))))
flag = $(if $(call given,$(1)),$(if $(filter 1,$(value $(1))),$(2),$(error Write $(1)=1, or leave it out)))
needs_rows = $(if $(strip $(foreach one,FILE EACH_FILE FROM,$(call given,$(one)))),,$(call needs,FILE,prompts.jsonl))
needs = $(if $(call given,$(1)),,$(error Say which $(1): make $@ $(1)=$(2)))

limits := LIMIT MAX_PREDICTIONS MAX_COST MAX_IN_FLIGHT CONFIRM_ABOVE
many := EACH_FILE FROM AS EACH REPEAT SEED_FROM TEMPLATE SAMPLE SAMPLE_SEED MAP
order = $(call option,NAME,--name) $(call option,MODEL,--model) $(call option,INPUT,--input) \
  $(call option,PRIORITY,--priority) $(foreach limit,$(limits),$(call option,$(limit),$(limit_$(limit)))) \
  $(foreach one,$(many),$(call option,$(one),$(many_$(one)))) \
  $(call flag,DYNAMIC_PROMPTS,--dynamic-prompts) $(call flag,APPEND,--append) $(call flag,REPLACE,--replace) \
  $(call flag,ALLOW_UNKNOWN,--allow-unknown) $(call flag,NO_MODEL_CHECK,--no-model-check) \
  $(call flag,COPY_INPUTS,--copy-inputs) $(call flag,KEEP_UPLOADS,--keep-uploads) $(call flag,JSON,--json) \
  $(if $(call given,FILE),-- $(call argument,FILE))
many_EACH_FILE := --each-file
many_FROM := --from
many_AS := --as
many_EACH := --each
many_REPEAT := --repeat
many_SEED_FROM := --seed-from
many_TEMPLATE := --template
many_SAMPLE := --sample
many_SAMPLE_SEED := --sample-seed
many_MAP := --map
limit_LIMIT := --limit
limit_MAX_PREDICTIONS := --max-predictions
limit_MAX_COST := --max-cost
limit_MAX_IN_FLIGHT := --max-in-flight
limit_CONFIRM_ABOVE := --confirm-above

# An unknown variable is an error before anything runs: an ignored limit costs money.
takes_order := FILE NAME MODEL INPUT PRIORITY $(limits) $(many) DYNAMIC_PROMPTS APPEND REPLACE ALLOW_UNKNOWN \
  NO_MODEL_CHECK COPY_INPUTS KEEP_UPLOADS JSON
takes_run := $(takes_order) ALL PILOT BY
takes_enqueue := $(takes_order) CHECK
takes_status := BATCH JSON
takes_watch := BATCH JSON
takes_worker := METRICS_PORT
takes_dashboard := HOST PORT READ_ONLY
takes_chaos := MATRIX
takes_lint := PACKAGES
takes_lock := UPGRADE
settings := BATCH_% REPLICATE_% REDIS_URL %_PROXY %_proxy SSL_CERT_FILE PIP_% UV_% PYTHON VENV SHELL
known := $(foreach goal,$(MAKECMDGOALS),$(takes_$(goal)))
unknown := $(filter-out $(known) $(settings),$(foreach a-name,$(.VARIABLES),$(if $(filter command,$(origin $(a-name))),$(a-name))))
ifneq ($(unknown),)
$(error make $(or $(MAKECMDGOALS),help) does not take $(unknown); it takes $(or $(known),no options). Nothing was done)
endif

ifneq ($(filter run enqueue,$(MAKECMDGOALS)),)
stray := $(foreach limit,$(limits),$(if $(filter environment,$(origin $(limit))),$(limit)))
ifneq ($(strip $(stray)),)
$(error $(strip $(stray)) in the environment does not count: write it after make $(MAKECMDGOALS), or unset it. Nothing was done)
endif
endif

##@ Start here

.PHONY: demo
demo: $(VENV)/.for-use ## Run a whole batch offline: a simulator, 40 prompts, a worker, a gallery
	@$(BIN)/python -m demo

.PHONY: test
test: $(VENV)/.for-work ## Run all tests
	@$(pytest)

.PHONY: chaos
chaos: $(VENV)/.for-work ## Kill, stall and starve workers in every way; print what was lost (minutes)
	@$(BIN)/python -m pytest tests/chaos -n 4 -m "chaos or not chaos" $(call option,MATRIX,--matrix)

##@ Your prompts (FILE=prompts.jsonl  NAME=batch  MODEL=owner/name  LIMIT=5  MAX_COST=12.50  BATCH=batch)

run enqueue status watch dashboard redis-stop: export STARTED_BY := make

.PHONY: run
run: $(VENV)/.for-use ## Enqueue FILE, run it, show the progress and a summary
	@$(needs_rows)$(BIN)/python -m jobs run $(call flag,ALL,--all) $(call option,PILOT,--pilot) $(call option,BY,--by) $(order)

.PHONY: enqueue
enqueue: $(VENV)/.for-use ## Enqueue FILE for the workers
	@$(needs_rows)$(BIN)/python -m jobs enqueue $(call flag,CHECK,--check) $(order)

.PHONY: worker
worker: $(VENV)/.for-use ## Work until stopped (Ctrl-C); also fires schedules.toml
	@$(call option,METRICS_PORT,BATCH_METRICS_PORT) exec $(BIN)/python -m arq worker.Settings

.PHONY: status
status: $(VENV)/.for-use ## Show the state of all batches, or of BATCH
	@$(BIN)/python -m jobs status $(call flag,JSON,--json) -- $(call argument,BATCH)

.PHONY: watch
watch: $(VENV)/.for-use ## Follow BATCH, or the newest batch, until it is finished
	@$(BIN)/python -m jobs watch $(call flag,JSON,--json) -- $(call argument,BATCH)

.PHONY: dashboard
dashboard: $(VENV)/.for-use ## Show batches in a browser as they run, steer and rate them
	@exec $(BIN)/python -m jobs dashboard $(call option,HOST,--host) $(call option,PORT,--port) $(call flag,READ_ONLY,--read-only)

.PHONY: redis-stop
redis-stop: $(VENV)/.for-use ## Stop the local Valkey server (it keeps its data)
	@$(BIN)/python -m jobs redis-stop

##@ The code

.PHONY: bench
bench: $(VENV)/.for-bench ## Measure this project beside its peers (half an hour); write docs/benchmarks.md
	@$(BIN)/python -m benchmarks all

.PHONY: bench-quick
bench-quick: $(VENV)/.for-bench ## Print the essential ratios (two minutes)
	@$(BIN)/python -m benchmarks quick

.PHONY: coverage
coverage: $(VENV)/.for-work ## Run all tests and measure their coverage (twice as long)
	@$(pytest) --cov --cov-report=term

.PHONY: install
install: $(VENV)/.for-use ## Make .venv with what running needs (every target above does it by itself)

.PHONY: lint
lint: $(VENV)/.for-work ## Check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(PACKAGES)
	$(BIN)/lint-imports

.PHONY: format
format: $(VENV)/.for-work ## Format the code and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: lock
lock: ## Pin what pyproject.toml names and is not pinned; UPGRADE=1: pin the newest of all
	@$(find_python) "$$python" -m venv .venv-lock && .venv-lock/bin/pip install --quiet uv
	@$(call compile,--group build --group simulator,requirements.txt)
	@$(call compile,--group build --group dev --constraint requirements.txt,requirements-dev.txt)
	@$(call compile,--group build --group bench --constraint requirements-dev.txt,requirements-bench.txt)
	@rm -rf .venv-lock

.PHONY: clean
clean: ## Remove .venv and caches; never outputs/ or .redis/
	rm -rf $(VENV) .venv-lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.*
	find $(PACKAGES) -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## Print this list
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo

# The virtual environment. Each stamp is newer than the lock that was installed.

define find_python
for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && break; python=; \
done; \
[ -n "$$python" ] || { echo "No Python 3.11 or newer found. Install one, or say which: make PYTHON=/path/to/python3.12" >&2; exit 1; };
endef

compile = .venv-lock/bin/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
  $(call flag,UPGRADE,--upgrade) --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(1) --output-file $(2)
pytest = $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal
pip = $(BIN)/python -m pip --disable-pip-version-check
# The locks are complete. Without --no-deps pip resolves again, and takes a newer release of what is named with an extra.
install = $(pip) install --quiet --no-deps --require-hashes -r $(1) && $(pip) check

$(BIN)/python:
	@$(find_python) echo "Making $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "The venv module is incomplete. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

$(VENV)/.for-use: requirements.txt pyproject.toml | $(BIN)/python
	@echo "Installing requirements.txt"
	@$(call install,requirements.txt)
	@$(pip) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.for-bench: requirements-bench.txt $(VENV)/.for-use
	@echo "Installing requirements-bench.txt"
	@$(call install,requirements-bench.txt)
	@touch $@

$(VENV)/.for-work: requirements-dev.txt $(VENV)/.for-use
	@echo "Installing requirements-dev.txt"
	@$(call install,requirements-dev.txt)
	@touch $@
