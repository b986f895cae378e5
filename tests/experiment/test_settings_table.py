"""The page of all settings is that of conf/default.yaml and the dataclasses."""

import dataclasses

import pytest
from recipe_runs import ROOT

from dnf.experiment import settings_table
from dnf.experiment.config import Config, resolve


def test_the_page_lists_every_setting_as_it_is():
    """To renew the page, run ``python3 -m dnf.experiment.settings_table >docs/settings.md``."""
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == settings_table.markdown()


def test_every_setting_has_a_meaning():
    config, meanings = resolve([]), settings_table.meanings()
    for section in dataclasses.fields(Config):
        owner = getattr(config, section.name)
        keys = (
            [f"{section.name}.{key.name}" for key in dataclasses.fields(owner)] if section.name != "seed" else ["seed"]
        )
        assert [key for key in keys if not meanings.get(key)] == []


@pytest.mark.parametrize(
    "section, key, bound",
    [("train", "lr", ", above 0"), ("train", "beta", ", 0 or more"), ("features", "high_freq", "")],
)
def test_bounds_are_those_that_the_settings_check(section, key, bound):
    assert settings_table.lower_bound(getattr(resolve([]), section), key) == bound
