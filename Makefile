# Each target sets up what it needs; with everything there that takes a fraction of a second.
#   make run    a lab of three real servers, and the TUI on it        make test   all tests, real virtual machines included
#   make demo   the TUI on simulated servers, no libvirt needed       make check  style, types, import contracts
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

bin := .venv/bin
fleet := config/fleets/lab.toml
images := .cache/lab/images
disks := .cache/lab/disks
lab_image := vagrant/images/lab/build.sh --out $(images)/web
metal_image := vagrant/images/metal/build.sh --out $(images)/metal
as_libvirt := vagrant/provision/as-libvirt
# What pytest is given; "make test ARGS=tests/core" runs a part. -v undoes the -q of pyproject.toml: the closing line is whole.
ARGS ?=
MARKS ?= not long
# What property tests draw: the same each time, since what a fresh draw finds is no fault of the change that is tested; or "fresh".
DRAWS ?= same

.PHONY: help setup images images-bad image-debian lab-metal libvirt lab run demo test test-long check stories sim crash bench docs cast lock lab-down clean

help:
	@sed -n 's/^#   //p' Makefile
	@echo 'also: setup, stories (accept the golden traces as they are now), sim (SEEDS=10000 random cases), crash (kill -9 of a daemon at every failpoint), lab (images and libvirt, no servers), lab-metal (images and disks for bare metal), lab-down (removes what was made), bench, docs, cast (the film in README), lock, clean'

setup:
	@vagrant/provision/setup.sh

images: setup
	@$(lab_image) --version 1
	@$(lab_image) --version 2

images-bad: images
	@$(lab_image) --version 3-panic --flavour panic
	@$(lab_image) --version 3-no-sshd --flavour no-sshd
	@$(lab_image) --version 3-dies --flavour dies-after:3

image-debian: setup
	@vagrant/images/debian/build.sh --out $(images)/debian

# Images for bare metal, good and bad, and disks that boot version 1: what real machines of the tests start from.
lab-metal: setup
	@$(metal_image) --version 1
	@$(metal_image) --version 2
	@$(metal_image) --version 3-panic --flavour panic
	@$(metal_image) --version 3-no-sshd --flavour no-sshd
	@$(metal_image) --version 3-hang --flavour hang
	@$(metal_image) --version 3-dies --flavour dies-after:20
	@vagrant/images/metal/lab-disks.sh --image $(images)/metal/1 --out $(disks)

libvirt: setup
	@vagrant/provision/libvirt.sh start

lab: images-bad libvirt

run: images libvirt
	@$(as_libvirt) $(bin)/anew --fleet $(fleet) lab up --watch
	@[ -t 0 ] && [ -t 1 ] || echo 'No terminal here. To see it live: make run, in a terminal    To end it: make lab-down'

demo:
	@vagrant/provision/setup.sh --demo
	@$(bin)/anew demo

# libvirt is stopped again only if it was started here, and silently: pytest has the last word.
test: images-bad image-debian lab-metal
	@started=0; vagrant/provision/libvirt.sh status >/dev/null 2>&1 || started=1; \
	vagrant/provision/libvirt.sh start; \
	code=0; $(as_libvirt) $(bin)/python -m pytest -v --durations=40 --durations-min=10 -m "$(MARKS)" --hypothesis-profile=$(DRAWS) $(ARGS) || code=$$?; \
	[ $$started = 0 ] || vagrant/provision/libvirt.sh stop >/dev/null 2>&1 || true; \
	exit $$code

# What takes minutes on real machines: power cuts, images that hang until their dead-man fires, disks written from nothing. And all property
# tests with fresh draws.
test-long:
	@$(MAKE) test MARKS='long or hypothesis' DRAWS=fresh

check: setup
	@$(bin)/ruff check .
	@$(bin)/mypy --strict fleet drivers tui tests bench docs
	@$(bin)/lint-imports
	@$(bin)/python docs/generate.py --check
	@$(bin)/python -m pytest tests/house

# Figures into bench/results.json; ARGS="cli tui" measures some parts and keeps the others.
bench: images libvirt
	@vagrant/provision/setup.sh --bench || echo 'htop and btop are left out of the bench: they could not be installed'
	@$(as_libvirt) $(bin)/python -m bench.run $(ARGS)

# Random cases against the production engine on a simulated world, in both modes: make sim SEEDS=10000 (docs/simulation.md).
SEEDS ?= 1000
sim: setup
	@$(bin)/python -m tests.sim --seeds $(SEEDS) $(ARGS)

# The golden stories as the engine tells them now; look at the difference before you commit it.
stories: setup
	@$(bin)/python -m tests.scenarios --update

# A real daemon on simulated servers, killed at every failpoint, forward, in rollback and in recovery; prints what struck where.
crash: setup
	@$(bin)/python -m tests.engine.crashes

# The pages and files that are made from tables in the code.
docs: setup
	@$(bin)/python docs/generate.py --write

# The film in README, recorded anew: a walk through the demo with real keys in a terminal of 80x24 (docs/cast.py). Look at it before you commit it.
cast: setup
	@$(bin)/python -m docs.cast

# Newer releases of what pyproject.toml asks for, with hashes; the lock names no index and no path of this machine.
lock:
	@vagrant/provision/lock.sh

lab-down:
	@if [ -x $(bin)/anew ] && command -v virsh >/dev/null; then \
	  vagrant/provision/libvirt.sh start; \
	  $(as_libvirt) $(bin)/anew --fleet $(fleet) lab down --yes; \
	  $(as_libvirt) vagrant/provision/lab-down.sh lab; \
	fi
	@vagrant/provision/libvirt.sh stop
	@rm -rf $(images) $(disks)

# All that make has made in this folder. Servers of the lab are not forgotten by it: lab-down comes first.
clean: lab-down
	@vagrant/provision/clean.sh
