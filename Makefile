# make run      build, start a throwaway cluster, walk through the features
# make stop     end that cluster
# make test     every test; the last line is "N passed, N failed"; PG=15, 16, 18 or all, or what else Debian has
# make bench    measure, side by side with the query one would write by hand
# make install  into the server of PG_CONFIG
# make deb      a Debian package for the Postgres of PG_CONFIG, or for each of PG=all
# make test-deb checks that package, and installs it in a fresh minimal Debian (as root), or each of PG=all
# make dist     the zip for PGXN

# PG=16 chooses one of the servers to test on, and PG_CONFIG=... any other.
ifeq ($(filter-out all,$(PG)),)
PG_CONFIG ?= $(firstword $(wildcard /usr/lib/postgresql/15/bin/pg_config) pg_config)
else
PG_CONFIG := $(shell scripts/pg-config.sh $(PG))
endif
export PG_CONFIG

PG_MAJOR = $(shell $(PG_CONFIG) --version 2>/dev/null | sed -E 's/^[^0-9]*([0-9]+).*/\1/')
BUILD_DIR ?= target/pg$(PG_MAJOR)
LIBRARY = $(BUILD_DIR)/release/libapi_tokens.so

# pgrx then needs neither cargo-pgrx nor its home directory.
CARGO_PGRX = env PGRX_PG_CONFIG_AS_ENV=1 PGRX_PG_CONFIG_PATH="$(shell command -v $(PG_CONFIG))" cargo
FOR_SERVER = --no-default-features --features pg$(PG_MAJOR) --target-dir $(BUILD_DIR)

.PHONY: all build deps install run stop test test-long test-pg-upgrade bench bench-scaling deb test-deb dist lint deny schema-check clean

all: build

deps:
	@scripts/deps.sh

build: deps
	@echo "== building for Postgres $(PG_MAJOR) (the first time takes about two minutes)"
	@$(CARGO_PGRX) build --release --locked --lib -p api_tokens $(FOR_SERVER)

install: build
	@echo "== installing into $(DESTDIR)$$($(PG_CONFIG) --pkglibdir) and $(DESTDIR)$$($(PG_CONFIG) --sharedir)/extension"
	@install -d "$(DESTDIR)$$($(PG_CONFIG) --pkglibdir)" "$(DESTDIR)$$($(PG_CONFIG) --sharedir)/extension"
	@install -m 755 $(LIBRARY) "$(DESTDIR)$$($(PG_CONFIG) --pkglibdir)/.api_tokens.so.new"
	@mv -f "$(DESTDIR)$$($(PG_CONFIG) --pkglibdir)/.api_tokens.so.new" "$(DESTDIR)$$($(PG_CONFIG) --pkglibdir)/api_tokens.so"
	@install -m 644 api_tokens.control sql/api_tokens--*.sql "$(DESTDIR)$$($(PG_CONFIG) --sharedir)/extension/"

run: install
	@scripts/run.sh

stop:
	@scripts/stop.sh

ifeq ($(PG),all)
test:
	@scripts/test-all.sh
else
test: install
	@scripts/test.sh
endif

# Crashes and the linearizability of revocations, for long.
test-long: install
	@scripts/test-long.sh

# From 15 and 16 to 18, with data.
test-pg-upgrade:
	@scripts/test-pg-upgrade.sh

bench: install
	@bench/run.sh

# Standbys: checks a second, and how soon a revocation holds there.
bench-scaling: install
	@bench/scaling.sh

ifeq ($(PG),all)
deb test-deb:
	@for major in 15 16 17 18; do $(MAKE) --no-print-directory $@ PG=$$major || exit; done
else
deb:
	@scripts/deb.sh

test-deb: deb
	@scripts/test-deb.sh $(or $(PG),$(PG_MAJOR))
endif

dist:
	@scripts/dist.sh

lint: deps
	@scripts/version.sh >/dev/null
	@scripts/released-check.sh
	cargo fmt --all --check
	$(CARGO_PGRX) clippy --locked -p api_tokens $(FOR_SERVER) -- -D warnings
	cargo clippy --locked --all-targets -p api_tokens_logic -p api_tokens_tests -- -D warnings

deny:
	@scripts/deny.sh

schema-check: install
	@scripts/schema-check.sh $(BUILD_DIR)

clean: stop
	rm -rf target
