"""The examples in docstrings run, and what readers look for first has one."""

import doctest
import importlib

import pytest

from dnf.models.flows import FLOWS

MODULES = ("dnf.models.checkpoint", "dnf.models.flows", *(family.__module__ for family in FLOWS.values()))
MODULES += ("dnf.inference.classifier",)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_has_examples_and_they_run(name):
    failed, attempted = doctest.testmod(importlib.import_module(name))
    assert attempted and not failed
