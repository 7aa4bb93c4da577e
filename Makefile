# Everything that is set up, checked, run or measured. `make` alone lists the targets.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3,$(shell command -v $(name))))
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
MODERN := .venv-modern
MODERN_INSTALLED := $(MODERN)/.installed

.PHONY: help install install-modern demo docs pictures check field lock test test-fast test-modern test-clusters dist wheel dist-env fuzz clean browser bench bench-photos bench-badimages bench-peers bench-rescore bench-growth bench-resume bench-sample bench-second-look bench-coverage bench-quality bench-train bench-publish bench-faults bench-urls bench-chaos bench-doctor bench-gpu

help:  ## this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

install: $(INSTALLED)  ## .venv with exactly the versions of constraints.txt; a second call does nothing

$(INSTALLED): setup.py constraints.txt
	@test -n "$(PYTHON)" || { echo "toiletspark needs Python 3.11 or newer; none was found"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "toiletspark needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version)"; exit 2; }
	@echo "== installing into $(VENV) with $(PYTHON): about 5 GB (torch), two to five minutes, only this once"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt pip setuptools wheel
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --no-build-isolation --constraint constraints.txt --editable '.[train,tensorboard,local,openvino,s3,dev]'
	@touch $(INSTALLED)
	@echo "== installed"

install-modern: $(MODERN_INSTALLED)  ## .venv-modern: the scoring side on Spark 4, exactly the versions of constraints-modern.txt

$(MODERN_INSTALLED): setup.py constraints-modern.txt
	@test -n "$(PYTHON)" || { echo "toiletspark needs Python 3.11 or newer; none was found"; exit 2; }
	@echo "== installing into $(MODERN): about 5 GB (torch), two to five minutes, only this once"
	@test -x $(MODERN)/bin/python || $(PYTHON) -m venv $(MODERN)
	@$(MODERN)/bin/python -m pip install --quiet --constraint constraints-modern.txt pip setuptools wheel
	@PYTHONWARNINGS=ignore $(MODERN)/bin/python -m pip install --quiet --no-build-isolation --constraint constraints-modern.txt \
		--editable '.[fit,tensorboard,local,openvino,s3,dev]'
	@touch $(MODERN_INSTALLED)
	@echo "== installed"

demo: install  ## draws a small catalog and runs every step on it
	@$(BIN)/toiletspark demo

check: install  ## style, types, the direction of imports, packages and their known vulnerabilities
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pip check
	$(BIN)/python -m release.pins
	$(BIN)/python -m release.advisories

docs: install  ## docs/configuration.md and docs/tables.md anew, from conf/base.toml and the schemas
	@$(BIN)/python -m release.documentation

pictures: install  ## docs/pictures anew: runs the demo and photographs its page; needs chromium (make browser); SET=backbone.weights=FILE
	@$(BIN)/python -m release.pictures $(SET)

lock: install  ## requirements.lock anew, from setup.py and constraints.txt, with the index's hashes
	$(BIN)/uv --quiet pip compile setup.py --all-extras --constraint constraints.txt --generate-hashes --no-annotate \
		--python-version 3.11 --python-platform x86_64-manylinux_2_28 --custom-compile-command "make lock" \
		--output-file requirements.lock

test: install  ## the tests, in three processes: two of them have a Spark session
	$(BIN)/python -m pytest -n 3 --no-loadscope-reorder

test-fast: install  ## the tests that take seconds
	$(BIN)/python -m pytest -m 'not slow'

test-clusters: install  ## the tests that take minutes: make dist's products on a cluster, by the commands of docs/clusters.md; the doctor on one
	$(BIN)/python -m pytest -m minutes

test-modern: install install-modern  ## all tests that need no petastorm, training too, on Spark 4; and that both worlds give the same list
	$(MODERN)/bin/python -m pip check
	TOILETSPARK_OTHER_PYTHON=$(CURDIR)/$(BIN)/python $(MODERN)/bin/python -m pytest -n 3 --no-loadscope-reorder $(TESTS)

browser:  ## Debian's chromium, in which pages are tested; as root
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium

dist: wheel dist-env  ## both of these, for a cluster

wheel: install  ## dist/toiletspark-*.whl, for spark-submit --py-files: seconds, for each change
	@rm -rf build dist/*.whl
	$(BIN)/python -m build --wheel --no-isolation --outdir dist . > /dev/null
	@rm -rf build
	@ls dist/*.whl

dist-env: install  ## dist/environment.tar.gz, for --archives, for new constraints; WITHOUT="torch torchvision": a fourteenth of it
	@$(BIN)/python -m release.environment --out dist/environment.tar.gz $(foreach name,$(WITHOUT),--without $(name))

field: install  ## the cases of the shared folder's field/: right, refused or wrong; CASES="01 14"
	@$(BIN)/python -m benchmarks.field $(foreach number,$(CASES),--case $(number))

bench: bench-peers bench-rescore bench-growth bench-resume  ## the four of the embedding store, two hours

bench-photos: install  ## real photos end to end: quality, times, memory of a worker, a second rescore; CONF=conf/larger.toml
	@$(BIN)/python -m benchmarks.photos $(foreach file,$(CONF),--conf $(file))

bench-badimages: install  ## broken and hostile files: one row each
	@$(BIN)/python -m benchmarks.badimages

bench-peers: install  ## the race against the field and against the machine's limit, each contestant in its own environment
	@$(BIN)/python -m benchmarks.peers $(PEERS)

bench-gpu: install  ## one GPU: decoding, forward pass, both together, and the chip's limits; no Spark
	@$(BIN)/python -m benchmarks.gpu

bench-second-look: install  ## share of wrong labels among the first of the queue, 5 % of real labels flipped
	@$(BIN)/python -m benchmarks.second_look

bench-rescore: install  ## a new head over ROWS=1000000 stored embeddings: rows/s, memory
	@$(BIN)/python -m benchmarks.rescore --rows $(or $(ROWS),1000000)

bench-growth: install  ## catalogs of up to ROWS_MAX=1000000 images with 0, 1 and 100 % changed
	@$(BIN)/python -m benchmarks.growth --rows-max $(or $(ROWS_MAX),1000000) \
		$(if $(ROWS_MIN),--rows-min $(ROWS_MIN)) $(if $(CHANGED_MAX),--changed-max $(CHANGED_MAX))

bench-resume: install  ## the driver is killed at 50 % and at other moments: work done twice, and the same result
	@$(BIN)/python -m benchmarks.resume

bench-sample: install  ## an exact draw from LISTINGS=10000000 listings: seconds, memory, the same again, nested
	@$(BIN)/python -m benchmarks.sample --listings $(or $(LISTINGS),10000000)

bench-coverage: install  ## the share of 95 % intervals that hold the catalog's true figures: simulation, 300 draws a size
	@$(BIN)/python -m benchmarks.coverage

bench-quality: install  ## heads on other listings and on another source: accuracy, ROC AUC, precision, with intervals
	@$(BIN)/python -m benchmarks.quality

bench-train: install  ## a head from ROWS=40000 labelled embeddings: seconds of the whole command, peak memory
	@$(BIN)/python -m benchmarks.train --rows $(or $(ROWS),40000)

bench-publish: install  ## 1,000 publications under two readers, four publishers at once, a driver killed at five moments
	@$(BIN)/python -m benchmarks.publish

bench-faults: install  ## twelve faults that must not be published, and 20 clean runs that must
	@$(BIN)/python -m benchmarks.faults

bench-urls: install  ## hostile URLs against forbidden servers: refused, connections, seconds over the deadline
	@$(BIN)/python -m benchmarks.urls

bench-chaos: install  ## hostile images on a cluster whose processes are killed, under readers, against an oracle of one process
	@$(BIN)/python -m benchmarks.chaos

bench-doctor: install  ## eight faults planted in a standalone cluster, and the cluster without them
	@$(BIN)/python -m benchmarks.doctor

fuzz: install  ## hostile input, MINUTES=10 a target, two targets at a time: crashes
	@$(BIN)/python -m benchmarks.fuzz --minutes $(or $(MINUTES),10)

clean:  ## removes what make has made
	rm -rf $(VENV) $(MODERN) build dist toiletspark-demo toiletspark-output *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
