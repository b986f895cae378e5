"""What each process imports before it works: start-up is most of what a short job costs, and a queue starts thousands."""

import subprocess
import sys

import pytest
from recipe_runs import environment

HEAVY = (
    "numpy", "torch", "lhotse", "scipy", "scipy.stats", "scipy.optimize", "scipy.signal", "sklearn", "matplotlib", "tensorboard",
)  # fmt: skip


@pytest.mark.parametrize(
    "modules, allowed",
    [
        (
            (
                "experiment.plan",
                "experiment.stage",
                "experiment.lock",
                "experiment.sets",
                "experiment.status",
                "data.check_sets",
                "data.datadir",
                "data.splits",
            ),
            (),
        ),
        (("scoring.score", "decisions.evidence"), ("numpy",)),
        (("features.extract", "features.frames", "features.recording_frames"), ("numpy", "torch", "lhotse")),
        (("inference.classify",), ("numpy", "torch", "lhotse", "scipy")),
    ],
    ids=lambda value: "+".join(value) or "none",
)
def test_a_process_imports_no_heavy_package_that_it_does_not_need(modules, allowed):
    for module in modules:
        code = f"import sys, dnf.{module}; print(*[name for name in {HEAVY} if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
        assert done.returncode == 0, done.stderr
        assert set(done.stdout.split()) <= set(allowed), f"dnf.{module} imports {done.stdout}"
