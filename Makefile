# Everything from a bare Debian 12, as root: `make demo` and `make test` install what is missing
# and run. Stamps in .venv make the second call instant; `make clean` forgets everything.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
# Each daemon of a test is a new process: it must not compile the whole house again, whatever the machine's own setting.
export PYTHONDONTWRITEBYTECODE :=

VENV := .venv
PY := $(VENV)/bin/python
PIP_INSTALL := $(PY) -m pip install --quiet --no-deps
PIP_COMPILE := $(VENV)/bin/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links

# What compiles the C core and the BPF objects; a machine that gets a wheel needs none of it.
APT_BUILD := gcc libc6-dev libssl-dev python3-dev clang libbpf-dev linux-libc-dev
APT_BASE := $(APT_BUILD) python3 python3-venv nftables iproute2 procps netbase libbpf1
APT_DEMO := $(APT_BASE) openssh-server openssh-client curl iputils-ping
APT_TEST := $(APT_DEMO) libclang-rt-dev sip-tester netcat-openbsd proxychains4 dbus-daemon bind9-dnsutils util-linux iperf3 ethtool \
	chromium fonts-dejavu-core redis-server systemd man-db groff-base mandoc
APT_DEB := debhelper lintian mandoc man-db systemd dpkg-dev debootstrap systemd-container
APT_BENCH := $(APT_DEMO) iperf3 ethtool openssl chromium fonts-dejavu-core
APT_PEERS := dante-server openvpn wireguard-go wireguard-tools

# A change of any of these compiles anew.
COMPILED := hatch_build.py $(wildcard src/sojourn/datapath/core/*.[ch] src/sojourn/bpf/*.[ch])

.PHONY: help demo test bench fuzz race lint unit net browser format lock setup deb deb-check clean

help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/:/' | awk -F: '{printf "  make %-10s%s\n", $$1, $$2}'

demo: $(VENV)/.apt-demo $(VENV)/.installed ## Move live SSH, HTTP and voice flows through every change of network
	$(VENV)/bin/sojourn lab demo

test: lint unit net browser ## All checks and tests, some minutes (CI runs this)

lint: $(VENV)/.installed ## Style, types, and a test file for every source file
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy src tests bench scripts hatch_build.py
	$(PY) scripts/pairs.py

unit: $(VENV)/.apt-test $(VENV)/.installed ## Everything but the tests with real daemons
	$(PY) -m pytest -q -rR --reruns 2 -n 2 --dist loadfile --ignore=tests/net --ignore=tests/browser tests

# Real time on a machine that others use: a test that fails is tried twice more, and -rR names it at the end.
NET := $(PY) -m pytest -q -rR --reruns 2 tests/net

# Most tests meet the C core; these meet the Python engine, too.
NET_AGAIN := $(PY) -m pytest -q -rR --reruns 2 -n 2 --dist loadfile tests/net/test_engine.py tests/net/test_features.py \
	tests/net/test_direct.py::test_a_fast_flow_goes_on_by_the_node_when_the_path_dies \
	tests/net/test_hostile.py::test_datagrams_sent_again_by_a_stranger_are_counted_and_move_nothing \
	tests/net/test_hostile.py::test_spoilt_datagrams_are_counted_by_reason \
	tests/net/test_hostile.py::test_whoever_steals_a_fresh_datagram_gets_three_times_its_size_and_the_host_is_found_again \
	tests/net/test_hostile.py::test_a_flood_of_rubbish_takes_no_memory_and_gets_no_answer \
	tests/net/test_datapath_process.py::test_a_flow_outlives_kill_9_of_the_hosts_data_path \
	tests/net/test_datapath_process.py::test_a_flow_outlives_kill_9_of_the_anchors_data_path

net: $(VENV)/.apt-test $(VENV)/.installed ## The real daemons in network namespaces; those that hold times to a limit two at a time, those at full speed alone
	$(NET) -n 4 --dist loadfile -m "not timed and not alone"
	$(NET) -n 2 --dist load -m timed
	$(NET) -m alone
	SOJOURN_ENGINE=python $(NET_AGAIN)

browser: $(VENV)/.apt-test $(VENV)/.installed ## The window in Chromium, before the real daemons
	$(PY) -m pytest -q -rR --reruns 2 tests/browser

FUZZ_SECONDS := 60

fuzz: $(VENV)/.apt-test $(VENV)/.installed ## The parsers of the C core against bytes of all kinds, FUZZ_SECONDS=60 each
	$(PY) -m tests.fuzz.core_fuzzers --seconds $(FUZZ_SECONDS)

race: $(VENV)/.apt-test $(VENV)/.installed ## The threads of the C core under ThreadSanitizer, FUZZ_SECONDS=60
	$(PY) -m tests.fuzz.core_race --seconds $(FUZZ_SECONDS)

RUNS := 1
ONLY :=

bench: $(VENV)/.apt-bench $(VENV)/.installed-bench ## The figures beside their peers, into docs/performance.md; RUNS=3 ONLY="sealed kernel"
	scripts/newest-wireguard-go build/peers || echo "the newest wireguard-go will be missing" >&2
	$(PY) -m bench._run --runs $(RUNS) --only "$(ONLY)"

format: $(VENV)/.installed ## Put the code into its form
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

setup: $(VENV)/.installed ## Only install

deb: $(VENV)/.apt-deb $(VENV)/.installed ## The Debian package, into dist/
	scripts/deb-build

deb-check: $(VENV)/.apt-deb $(VENV)/.installed ## Install, use, upgrade and purge it in a Debian of its own; ten minutes
	scripts/check-deb

# The locks carry hashes and no index; `make lock UPGRADE=--upgrade` takes the newest versions.
lock: $(VENV)/.installed ## Write the lock files anew from pyproject.toml
	$(PIP_COMPILE) $(UPGRADE) -o requirements.txt pyproject.toml
	$(PIP_COMPILE) $(UPGRADE) --extra dev --extra demo --all-build-deps -o requirements-dev.txt pyproject.toml
	$(PIP_COMPILE) $(UPGRADE) --extra bench -c requirements-dev.txt -o requirements-bench.txt pyproject.toml

clean: ## Remove the environment and all that was made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis bench-out dist build
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f src/sojourn/datapath/_core.abi3.so src/sojourn/bpf/*.bpf.o

$(VENV)/.installed: requirements-dev.txt pyproject.toml $(COMPILED) | $(VENV)/.python
	$(PIP_INSTALL) --require-hashes -r requirements-dev.txt
	SOJOURN_BUILD=required $(PIP_INSTALL) --no-build-isolation -e .
	@touch $@

# What draws the plots: `make bench` alone needs it.
$(VENV)/.installed-bench: requirements-bench.txt $(VENV)/.installed
	$(PIP_INSTALL) --require-hashes -r requirements-bench.txt
	@touch $@

$(VENV)/.python: | $(VENV)/.apt-base
	@test -x $(PY) || "$$(scripts/find-python)" -m venv $(VENV)
	@touch $@

$(VENV)/.apt-base: scripts/apt-install
	@scripts/apt-install $(APT_BASE)
	@mkdir -p $(VENV) && touch $@

$(VENV)/.apt-demo: scripts/apt-install
	@scripts/apt-install $(APT_DEMO)
	@mkdir -p $(VENV) && touch $@

$(VENV)/.apt-test: scripts/apt-install
	@scripts/apt-install $(APT_TEST)
	@mkdir -p $(VENV) && touch $@

$(VENV)/.apt-deb: scripts/apt-install
	@scripts/apt-install $(APT_BUILD) $(APT_DEB)
	@mkdir -p $(VENV) && touch $@

$(VENV)/.apt-bench: scripts/apt-install
	@scripts/apt-install $(APT_BENCH)
	@scripts/apt-install --known $(APT_PEERS)
	@mkdir -p $(VENV) && touch $@
