# `make demo` and `make test` need Python 3.10 or 3.11 with venv and pip, and make.
#
#   make demo    a virtual environment, the pinned packages of [export], then int8 MobileBERT for NNAPI
#   make test    the same environment with [dev] added, lint, then the tests
#   make lint    ruff alone
#   make lock    resolve all extras anew for one Python version: make lock PYTHON=python3.10
#   make clean   remove the environment, caches and build results (exported models stay)
#
# Variables: PYTHON (which interpreter), VENV, PIP_FLAGS (for pip install), EXPORT_FLAGS (for make demo),
# PYTEST_FLAGS (for make test; empty: one test after another).

VENV ?= .venv
PIP_FLAGS ?=
EXPORT_FLAGS ?=
# A file's tests share what they have made, so a file goes to one process.
PYTEST_FLAGS ?= --numprocesses auto --dist loadfile

PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
# constraints-3.11.txt for the Python that the environment was made with
LOCK = $$($(PY) -c 'import sys; print("constraints-%d.%d.txt" % sys.version_info[:2])')

# A candidate counts only when it runs (pyenv leaves shims of versions that are switched off) and can make
# environments (Debian keeps ensurepip in python3-venv).
USABLE := import ensurepip, sys, venv; sys.exit(sys.version_info[:2] not in ((3, 10), (3, 11)))
define find_python
python=; for candidate in $(or $(PYTHON),python3.11 python3.10 python3 python); do \
	if "$$candidate" -c '$(USABLE)' >/dev/null 2>&1; then python=$$candidate; break; fi; \
done; \
if [ -z "$$python" ]; then \
	echo "error: expected Python 3.10 or 3.11 with venv and ensurepip, found none among:" \
		"$(or $(PYTHON),python3.11 python3.10 python3 python)." >&2; \
	echo "Install one (Debian, Ubuntu: python3.11 and python3.11-venv), or name it: make PYTHON=/path/to/python3.11" >&2; \
	exit 2; \
fi
endef

.PHONY: demo test lint lock clean

demo: $(VENV)/.installed-export
	$(PY) -m mobilebert_kit.export --target nnapi --overwrite $(EXPORT_FLAGS)

test: lint
	$(PY) -m pytest $(PYTEST_FLAGS)

lint: $(VENV)/.installed-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

# Stamps, not bin/python: an installation that was interrupted is done again.
$(VENV)/.created:
	@$(find_python); echo "Making $(VENV) with $$($$python --version)"; "$$python" -m venv --clear $(VENV)
	@# Python 3.10.0 brings a pip older than editable installs by pyproject.toml; newer ones are left alone.
	@$(PIP) install --quiet 'pip>=22.3'
	@touch $@

$(VENV)/.installed-%: $(VENV)/.created pyproject.toml constraints-3.10.txt constraints-3.11.txt
	@echo "Installing the pinned packages of [$*] into $(VENV): minutes, where they must be downloaded"
	@$(PIP) install --quiet $(PIP_FLAGS) --constraint $(LOCK) --editable '.[$*]'
	@touch $@

# Resolved in a throwaway environment, without installing, from pyproject.toml alone.
lock:
	@$(find_python); scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	"$$python" -m venv "$$scratch/venv" && \
	"$$scratch/venv/bin/python" -m pip install --quiet $(PIP_FLAGS) --dry-run --ignore-installed \
		--report "$$scratch/report.json" '.[dev]' && \
	"$$scratch/venv/bin/python" tools/write_lock.py "$$scratch/report.json"

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
