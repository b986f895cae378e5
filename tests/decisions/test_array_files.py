"""A file of arrays that is missing, cut short or another's is one line that names the file and the stage to run again."""

import numpy as np
import pytest

from dnf.decisions.open_set import OpenSet
from dnf.experiment.files import write_arrays
from dnf.scoring.channel_compensation import Correction
from dnf.scoring.latent_store import mapped
from dnf.scoring.shifted_evidence import Shifted

READERS = {
    "correction.npz": (Correction.load, "latents"),
    "shifted.npz": (Shifted.load, "latents"),
    "open_set.npz": (lambda path: OpenSet.load(path.with_suffix(".json")), "decide"),
    "z_mean.npy": (mapped, "latents"),
}


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_one_line_with_the_remedy(name, tmp_path):
    path, (read, stage) = tmp_path / name, READERS[name]
    with pytest.raises(ValueError, match=rf"^{path}: does not exist; run stage {stage} again \(--stage \d\)$"):
        read(path)
    if name.endswith(".npy"):
        np.save(path, np.arange(1000.0))
    else:
        write_arrays(path, {"others": np.arange(1000.0)})
    whole = path.read_bytes()
    for content in (b"", b"no", whole[:500], *([whole] if name.endswith(".npz") else [])):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"^{path}: is damaged \(.+\); run stage {stage} again") as caught:
            read(path)
        assert "\n" not in str(caught.value)
