"""Everything is in setup.cfg; colcon asks for this file."""

from setuptools import setup

setup()
