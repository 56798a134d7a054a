# Each target makes .venv (or .venv-integrations) if it is missing and installs into it, from the constraints.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal
INTEGRATIONS ?= .venv-integrations
LOWEST ?= .venv-lowest
MODULES := $(shell find envs agents llm_rl scripts -name '*.py' | sort)

.PHONY: demo docs figures test test-slow test-integrations test-lowest lint format benchmark install clean FORCE

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml setup.py constraints.txt $(VENV)/.modules
	@test -x $(BIN)/python || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing gridzero and what it needs into $(VENV): a few minutes the first time"
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	@echo "compiling what sweeps over states: half a minute, so that no first run has to"
	@scratch=$$(mktemp -d) && cd $$scratch && $(abspath $(BIN))/gridzero train value-iteration \
		--env gridzero/GridWorld-v0 --env.layout obstacles:250x250:0 --steps 9 --run compiled > /dev/null && rm -r $$scratch
	@touch $@

# The editable installation links file by file, so it is renewed when a module comes or goes, not when one changes.
$(VENV)/.modules: FORCE
	@mkdir -p $(VENV)
	@echo $(MODULES) | cmp --silent - $@ || echo $(MODULES) > $@

demo: install
	$(BIN)/gridzero demo

test: install
	$(PYTEST) --doctest-modules --doctest-glob='*.md' --pyargs gridzero ./tests README.md docs/guide docs/subjects \
		--ignore=tests/integrations

test-slow: install
	$(PYTEST) -m slow ./tests

# Other libraries bring an older Gymnasium: an environment of their own, where ours are tested on that as well.
test-integrations: $(INTEGRATIONS)/.installed
	$(INTEGRATIONS)/bin/python -m pytest -n 2 --dist worksteal \
		./tests/integrations ./tests/envs ./tests/agents/neural/sb3 ./tests/llm_rl/integrations

$(INTEGRATIONS)/.installed: pyproject.toml setup.py constraints-integrations.txt $(VENV)/.modules
	@test -x $(INTEGRATIONS)/bin/python || { echo "making $(INTEGRATIONS)"; $(PYTHON) -m venv $(INTEGRATIONS); }
	@echo "installing gridzero and what it plugs into, into $(INTEGRATIONS): some minutes the first time"
	@$(INTEGRATIONS)/bin/python -m pip --disable-pip-version-check install --quiet \
		--constraint constraints-integrations.txt --editable '.[dev,integrations]'
	@touch $@

# The core of the suite with the lowest version of each dependency that pyproject.toml allows; pip cannot choose these.
test-lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python -m pytest -n 2 --dist worksteal ./tests/envs ./tests/agents ./tests/llm_rl ./tests/scripts

$(LOWEST)/.installed: pyproject.toml setup.py $(VENV)/.modules
	@test -x $(LOWEST)/bin/python || { echo "making $(LOWEST)"; $(PYTHON) -m venv $(LOWEST); }
	@$(LOWEST)/bin/python -m pip --disable-pip-version-check install --quiet uv
	@echo "installing the lowest versions into $(LOWEST): several GB, for older builds of torch, and some minutes"
	@$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST) --resolution lowest-direct --editable '.[dev]'
	@touch $@

# Every figure of books and papers, into figures/, with its table: about 17 minutes. The command with --resume goes on.
figures: install
	$(BIN)/gridzero figure --all --folder figures

# The guide, as HTML in docs/_build: a warning is an error.
docs: install
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p gridzero

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: install
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[peers]'
	$(BIN)/gridzero benchmark

clean:
	rm -rf $(VENV) $(INTEGRATIONS) $(LOWEST) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
