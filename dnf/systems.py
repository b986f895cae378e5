"""The systems of an experiment: its flow, and the baselines scored on the same frames in the same way."""

from __future__ import annotations

from pathlib import Path

FLOW = "dnf"


def systems(exp: Path) -> dict[str, Path]:
    """Folder of each system by its name, the flow first; each has ``latents/<set>/`` in the form of stage 4.

    Args:
        exp: folder of the experiment, which is that of the flow; a baseline's is ``baselines/<name>`` below it.
    """
    baselines = sorted(path for path in (exp / "baselines").glob("*") if any(path.glob("latents/*/meta.json")))
    return {FLOW: exp, **{path.name: path for path in baselines}}
