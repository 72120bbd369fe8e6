# Two commands: `make grasp` runs the main job on a simulated arm, `make test` runs everything CI runs.
# Neither needs a ROS installation, root or an apt package. Both install into environments inside this folder.

PYTHON ?= python3
JAZZY := .venv
KILTED := .venv-kilted
PIP_INSTALL = bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
ARGS ?=
# These run whole nodes, which need the processors for themselves; everything else runs in two processes.
ROS_TESTS := tests/console tests/nodes tests/system tests/fault
# So long at most; which mutants it leaves out, if any, is another choice for every commit.
MUTATION_S := 1200
COVERAGE := --cov=policy_bringup.safety --cov-branch --cov-fail-under=100

.PHONY: grasp train test lint mutation faults soak fuzz models opengl clean

grasp: $(JAZZY)/robot.stamp
	$(JAZZY)/bin/policy run grasp --json build/grasp.json $(ARGS)

# From nothing to models/policies/grasp: demonstrations, training, calibration, evaluation. Goes on where it was.
train: $(JAZZY)/learning.stamp
	$(JAZZY)/bin/policy learn grasp $(ARGS)

test: opengl lint $(KILTED)/test.stamp
	$(JAZZY)/bin/python -m pytest $(ROS_TESTS:%=--ignore=%) --numprocesses 2 --dist loadfile $(COVERAGE) $(ARGS)
	$(JAZZY)/bin/python tests/mutation/run.py --seconds $(MUTATION_S)
	$(JAZZY)/bin/python -m pytest $(ROS_TESTS) -m "not soak" $(ARGS)
	$(KILTED)/bin/python -m pytest tests/nodes tests/system tests/fault -m "not soak" $(ARGS)
	$(JAZZY)/bin/python -m pytest tests/system/test_soak.py -m soak $(ARGS)

lint: $(JAZZY)/test.stamp
	$(JAZZY)/bin/ruff check .
	$(JAZZY)/bin/ruff format --check .
	$(JAZZY)/bin/mypy
	$(JAZZY)/bin/lint-imports

# Every small change to the monitor and the limiter, one at a time: a test must notice it.
mutation: $(JAZZY)/test.stamp
	$(JAZZY)/bin/python tests/mutation/run.py $(ARGS)

# Every fault of the specification, injected into the running stack with as many seeds: writes docs/faults.md (an hour).
faults: $(JAZZY)/test.stamp
	$(JAZZY)/bin/python tests/fault/table.py --seeds 20 $(ARGS)

# Half an hour of a whole deployment: does anything grow, is a transition lost, does a command break an invariant?
soak: $(JAZZY)/robot.stamp
	@mkdir -p build
	$(JAZZY)/bin/python benchmarks/soak.py --json build/soak.json $(ARGS)

# Hostile configuration, bundles and action tables: accepted whole, or refused with a sentence.
fuzz: $(JAZZY)/test.stamp
	$(JAZZY)/bin/python benchmarks/fuzz.py --vectors 100000 $(ARGS)

# The robot files, written anew from the table of kinematics.
models: $(JAZZY)/robot.stamp
	$(JAZZY)/bin/python -m policy_bringup.sim.model models/robot

# Pictures in simulation are drawn through OpenGL where its libraries are; CI has them installed, to test both ways.
opengl:
	@if [ "$$CI" = true ] && [ "$$(id -u)" = 0 ] && ! ldconfig -p | grep -q libEGL.so.1; then \
	  apt-get update -qq && apt-get install -qq -y libegl1 libgl1 >/dev/null; \
	fi
	@ldconfig -p | grep -q libEGL.so.1 || echo "No OpenGL here: pictures are ray cast. For OpenGL: sudo apt-get install libegl1 libgl1"

$(JAZZY)/robot.stamp: setup.cfg constraints.txt
	@echo "Installing into $(JAZZY) (about 700 MB, once) ..."
	$(PYTHON) -m venv $(JAZZY)
	$(JAZZY)/$(PIP_INSTALL) --editable '.[ros-jazzy,robot,sim,sim-gl,console]'
	@touch $@

$(JAZZY)/learning.stamp: $(JAZZY)/robot.stamp
	@echo "Installing torch ..."
	$(JAZZY)/$(PIP_INSTALL) --editable '.[learning]'
	@touch $@

$(JAZZY)/test.stamp: $(JAZZY)/learning.stamp
	$(JAZZY)/$(PIP_INSTALL) --editable '.[test,drake,lerobot,ray]'
	@touch $@

$(KILTED)/test.stamp: setup.cfg constraints.txt
	@echo "Installing into $(KILTED) ..."
	$(PYTHON) -m venv $(KILTED)
	$(KILTED)/$(PIP_INSTALL) --editable '.[ros-kilted,robot,sim,sim-gl,console,test]'
	@touch $@

clean:
	rm -rf build install log $(JAZZY) $(KILTED)
