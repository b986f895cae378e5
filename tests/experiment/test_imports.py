"""What each command imports before it works: start-up is most of what a short job costs, and a queue starts thousands."""

import re
import subprocess
import sys

import pytest
from recipe_runs import ROOT, environment

from dnf.__main__ import VERBS

HEAVY = (
    "numpy", "torch", "lhotse", "scipy", "scipy.stats", "scipy.optimize", "scipy.signal", "sklearn", "pandas", "matplotlib", "tensorboard",
    "jinja2",
)  # fmt: skip
STATS = "scipy scipy.stats scipy.optimize"
SKLEARN = f"{STATS} sklearn pandas"
MAY_IMPORT = {
    "dnf.__main__": "",
    "dnf.data.by_corpus": "",
    "dnf.data.check_sets": "",
    "dnf.data.data_to_score": "numpy torch lhotse",
    "dnf.data.datadir": "",
    "dnf.data.leave_out": "",
    "dnf.data.own_data": "numpy torch lhotse",
    "dnf.data.splits": "",
    "dnf.decisions.decide": f"numpy matplotlib {SKLEARN}",
    "dnf.metrics.figures": "",
    "dnf.experiment.lock": "",
    "dnf.experiment.plan": "",
    "dnf.experiment.requirements": "",
    "dnf.experiment.settings_table": "",
    "dnf.experiment.stage": "",
    "dnf.experiment.status": "",
    "dnf.features.collect": "numpy",
    "dnf.features.extract": "numpy torch lhotse",
    "dnf.features.frames": "numpy",
    "dnf.features.splice": "numpy torch",
    "dnf.inference.classify": "numpy torch lhotse scipy",
    "dnf.inference.export": "",
    "dnf.inference.score_data": "",
    "dnf.inference.taken_model": "numpy",
    "dnf.inference.move": f"numpy torch lhotse matplotlib {SKLEARN}",
    "dnf.plots.draw": "",
    "dnf.report.compare": f"numpy {SKLEARN}",
    "dnf.report.fuse": f"numpy torch matplotlib jinja2 {SKLEARN}",
    "dnf.report.html": "numpy scipy jinja2",
    "dnf.report.left_out": "",
    "dnf.report.results": "numpy scipy",
    "dnf.report.sweep": "numpy matplotlib",
    "dnf.scoring.baselines": f"numpy torch {SKLEARN}",
    "dnf.scoring.channel_mismatch": "numpy torch lhotse",
    "dnf.scoring.latents": f"numpy torch lhotse {STATS}",
    "dnf.scoring.score": "numpy",
    "dnf.training.launch": "numpy torch",
    "dnf.training.train": "numpy scipy torch tensorboard",
    "dnf.verification.verify": f"numpy torch matplotlib {SKLEARN}",
}
FORKS = f"""
import importlib, os, sys
for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        importlib.import_module(name)
        print(name, *[package for package in {HEAVY} if package in sys.modules], flush=True)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"{{name}} cannot be imported")
"""


def commands() -> set[str]:
    """The modules of dnf that can be run."""
    paths = (path for path in (ROOT / "dnf").rglob("*.py") if 'if __name__ == "__main__":' in path.read_text())
    return {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths}


def test_every_command_says_what_it_may_import():
    assert commands() == MAY_IMPORT.keys()


def test_what_the_scripts_and_verbs_start_are_commands():
    scripts = [ROOT / "run.sh", ROOT / "path.sh", *(ROOT / "local").glob("*.sh"), *(ROOT / "utils").glob("*.sh")]
    started = {name for path in scripts for name in re.findall(r"(?<![\w/.])dnf\.\w+\.\w+\b(?!\.)", path.read_text())}
    assert len(started) > 10 and started <= commands()
    assert {module for module, _ in VERBS.values()} <= commands()


@pytest.mark.slow
def test_no_command_imports_a_heavy_package_that_it_does_not_need():
    done = subprocess.run([sys.executable, "-c", FORKS, *MAY_IMPORT], capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    imported = {name: set(packages) for name, *packages in map(str.split, done.stdout.splitlines())}
    assert imported.keys() == MAY_IMPORT.keys()
    needless = {name: packages - set(MAY_IMPORT[name].split()) for name, packages in imported.items()}
    assert not {name: packages for name, packages in needless.items() if packages}
