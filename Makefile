# The two commands that matter: `make demo` and `make test`. Each installs what is missing and says so.
.DELETE_ON_ERROR:
.PHONY: look demo test matrix month booted faults vllm check types units format setup system test-system clean benchmark

BIN := .venv/bin

# Compiled modules are kept whatever the environment says: without them every command costs two seconds more.
export PYTHONDONTWRITEBYTECODE :=

demo: setup
	$(BIN)/invoke lab.up
	$(BIN)/invoke deploy --inventory lab
	$(BIN)/invoke endpoints --inventory lab
	$(BIN)/invoke verify --inventory lab
	@echo "The lab stays up: invoke status -i lab, invoke lab.break kfd-0600 mi300x-01, invoke lab.down"

# More workers than cores: tests of the lab wait for most of their time.
test: setup test-system check
	$(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder tests/probe tests/oracle tests/ssh tests/tools tests/standin tests/lab --durations=10

# The real vLLM on CPU against the same test as the stand-in. The first time it downloads and packs for some minutes.
vllm: setup
	$(BIN)/pytest tests/vllm -m vllm

# A roll killed before and after, and cut off during, every step of its plan; builds, imports, bundles and pushes of models at every
# point, sideloads at every share, relays whose host is lost, and model deltas to a site that is cut off: three hours.
matrix: setup
	$(BIN)/pytest tests/lab tests/tools -m matrix

# Thirty nights, with all that happens in a month, and what has piled up afterwards: half an hour. FLEET_MONTH_SEED draws others.
month: setup
	$(BIN)/pytest tests/lab/test_month.py -m month --log-cli-level=INFO

# The timer on a machine that systemd has booted, in namespaces of this one: two minutes, one of them until a night is due.
booted: setup
	$(BIN)/pytest tests/tools/test_booted.py -m booted

# Every fault of tests/lab/faults in the middle of a roll, and the table of them in docs/.
faults: setup
	FLEET_FAULTS_TABLE=$(CURDIR)/docs/faults-tried.md $(BIN)/pytest tests/lab/test_roll_faults.py -rP

# Format, lint, strict types and the unit tests: seconds, no root, no network. The last two side by side.
check: .venv/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@$(MAKE) --no-print-directory --jobs=2 --output-sync types units

types: .venv/.installed
	$(BIN)/mypy

units: .venv/.installed
	$(BIN)/pytest -n 2 tests/unit

format: .venv/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Sample timelines as pages and, where there is a chromium, as pictures: for eyes, in build/look.
look: .venv/.installed
	PYTHONPATH=. $(BIN)/python tools/look.py build/look

benchmark: setup
	$(BIN)/python -m benchmarks.preflight
	$(BIN)/python benchmarks/noop.py

setup: system .venv/.installed

system:
	@tools/system-packages

test-system: system
	@tools/system-packages tests

.venv/.installed: requirements.lock pyproject.toml | system
	@echo "make: installing the locked Python packages into .venv"
	python3 -m venv .venv
	$(BIN)/pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	$(BIN)/python -m compileall -q -x lab/standin/ fleet
	@touch $@

# requirements.lock from pyproject.toml: `make lock` after a change of dependencies.
.PHONY: lock
lock:
	python3 -m venv .venv && $(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --extra dev pyproject.toml -o requirements.lock

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build *.egg-info
