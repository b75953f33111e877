# `make demo` and `make test` need only Python >= 3.10 and make.
PYTHON ?= python3
VENV := .venv
RUN := $(CURDIR)/$(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help demo test lint format clean

help:
	@echo "make demo    pretrain a small WavJEPA and WavJEPA-Nat (minutes)"
	@echo "make test    check the style and run all tests"
	@echo "make lint    check the style"
	@echo "make format  put the style right"
	@echo "make clean   remove the environment and all results"

$(INSTALLED): setup.py constraints.txt speechbrain_wavjepa/__init__.py
	$(PYTHON) -m venv $(VENV)
	"$(RUN)/python" -m pip install --quiet --upgrade pip
	"$(RUN)/python" -m pip install --quiet -c constraints.txt -e ".[test]"
	@# its checks of PyTorch models do without the TensorFlow that it asks for
	"$(RUN)/python" -m pip install --quiet --no-deps -c constraints.txt \
		hearvalidator
	touch $(INSTALLED)

demo: $(INSTALLED)
	cd recipes/AudioSet/WavJEPA && \
		"$(RUN)/python" train.py hparams/wavjepa_mini.yaml && \
		"$(RUN)/python" train.py hparams/wavjepa_nat_mini.yaml

# one process for each core, up to four, with one thread each; the many
# programs that they start share bytecode
test: lint
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= "$(RUN)/python" -m pytest -q \
		--durations=10 \
		-n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: $(INSTALLED)
	"$(RUN)/ruff" check .
	"$(RUN)/ruff" format --check .
	"$(RUN)/lint-imports" --no-logo
	"$(RUN)/yamllint" --strict .
	"$(RUN)/codespell"
	"$(RUN)/lychee" --offline --no-progress --include-fragments .

format: $(INSTALLED)
	"$(RUN)/ruff" check --fix .
	"$(RUN)/ruff" format .

clean:
	rm -rf $(VENV) recipes/*/results recipes/*/*/results
