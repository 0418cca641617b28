# `make` says what there is to do. Everything that these commands make is ignored by git, and `make clean` removes it.

PYTHON ?= python3
BIN := .venv/bin
LINTERS := lint-ruff lint-mypy lint-yaml lint-ansible lint-changelog lint-sanity

.DEFAULT_GOAL := help
.PHONY: help setup demo hosts hosts-down test test-hosts test-launchers bench-parity bench-launch lint clean $(LINTERS)

help: ## Say what there is to do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: .venv/.ready ## Make .venv: this collection, live from this folder, with all tools

demo: setup ## Take two nodes on this machine to a verified training run
	@$(BIN)/python tools/demo.py

hosts: setup ## Bring N systemd hosts up on this machine for work by hand (make hosts N=4)
	@$(BIN)/python -m tools.hosts up --count $(or $(N),3)

hosts-down: setup ## Take those hosts down again
	@$(BIN)/python -m tools.hosts down

test: setup lint ## Run every check: lint, then the unit, integration and host tests
	@$(BIN)/python -m tools.hosts check
	@$(BIN)/python tools/local_nodes.py
	@$(BIN)/pytest --numprocesses=2

test-hosts: setup ## Run the tests on real hosts alone: bring them up, try everything, take them down
	@$(BIN)/python -m tools.hosts check
	@$(BIN)/pytest tests/hosts

test-launchers: setup ## Run every launcher with the real Axolotl: on this machine, then on real hosts
	@$(BIN)/python -m tools.hosts check
	@$(BIN)/pytest tests/integration/test_launchers.py tests/hosts/test_molecule.py

bench-parity: setup ## Print what parity costs, as ratios
	@$(BIN)/python -m tests.benchmarks.digest
	@$(BIN)/python -m tests.benchmarks.comparison

bench-launch: setup ## Print how far apart trainers start and what a launch costs, as ratios
	@$(BIN)/python -m tests.benchmarks.launch

lint: setup ## Check code and YAML, without network once the tools are there
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(MAKE) --no-print-directory --keep-going --jobs=2 \
		$(if $(filter output-sync,$(.FEATURES)),--output-sync=target) $(LINTERS)

clean: ## Remove all that make has made
	@if [ -d .hosts ]; then $(BIN)/python -m tools.hosts down; fi
	@rm -rf .venv .venv-path .cache .demo .ansible .hypothesis artifacts dist tests/output
	@rm -f inventories/*/group_vars/axolotl_nodes/machine.yml inventories/hosts/hosts.yml
	@rm -f gpufleet-axolotl-*.tar.gz changelogs/.plugin-cache.yaml
	@find . -path ./.git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

# The virtual environment is made anew when what defines it changes.
.venv/.ready: pyproject.toml tools/hatch_build.py tools/make_venv.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo >&2 "$(PYTHON) is missing" \
		"or older than 3.11. Install a newer one and name it: make PYTHON=python3.11 setup"; exit 1; }
	@$(PYTHON) tools/make_venv.py
	@touch $@

lint-ruff:
	@ruff check --quiet .
	@ruff format --quiet --check .

lint-mypy:
	@mypy --no-error-summary

lint-yaml:
	@yamllint --strict .

# ansible-lint takes everything below the current folder's git; ANSIBLE_HOME keeps what it caches out of yours.
lint-ansible:
	@ANSIBLE_HOME="$(CURDIR)/.cache/ansible" ansible-lint --strict -q

lint-changelog:
	@antsibull-changelog lint

lint-sanity:
	@python tools/sanity.py
