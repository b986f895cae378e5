"""What path.sh says of a Python that lacks what the project needs."""

import subprocess
import sys

from recipe_runs import ROOT, environment

from dnf.experiment.requirements import problem, required, unmet

PYPROJECT = (ROOT / "pyproject.toml").read_text()


def test_this_python_has_all():
    assert problem(ROOT) is None
    assert any(line.startswith("torch>=") for line in required(PYPROJECT))


def test_requirements_by_version_and_marker():
    assert unmet(["pytest>=8", "no-such-package; python_version < '3'"]) is None
    assert unmet(["pytest", "no-such-package>=1"]) == "has no no-such-package"
    assert unmet(["pytest>=8,<9000", "pytest>=9000"]).endswith(", not >=9000")


def test_what_is_missing_is_one_line_even_when_it_is_what_reads_the_requirements():
    done = subprocess.run(
        [sys.executable, "-S", "-m", "dnf.experiment.requirements", str(ROOT)],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"path.sh: {sys.executable} has no ") and "-m pip install -c " in done.stderr


def test_another_dnf_is_refused(tmp_path):
    assert "not this project; remove its folder from PYTHONPATH" in problem(tmp_path)
