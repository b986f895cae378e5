"""A recording as a model takes it, read once for all members of a fused system that take the same."""

from __future__ import annotations

from pathlib import Path

from dnf.features.recording_frames import RecordingFrames
from dnf.inference.recording_vector import RecordingVector
from dnf.inference.recordings import Item
from dnf.inference.system import Model


def read_recording(item: Item, model: Model, folder: Path) -> RecordingFrames:
    """The recording as the model takes it, in ``folder``; raises ``ValueError`` if it cannot be used."""
    if model.vectors:
        return RecordingVector(item.source, model.trained.config, folder, model.vectors)
    return RecordingFrames(item.source, model.trained.config, folder, device=model.device)


class SharedFrames:
    """The recordings that members have read and whose folders still exist."""

    def __init__(self):
        self._held: list[tuple[tuple, RecordingFrames]] = []

    def read(self, item: Item, model: Model, folder: Path) -> RecordingFrames:
        """What another member has read of the recording by the same settings, else ``read_recording``."""
        config = model.trained.config
        wanted = item, config.features, config.vad, config.frames.dtype, config.splice, id(model.vectors)
        self._held = [(key, frames) for key, frames in self._held if frames.folder.is_dir()]
        for key, frames in self._held:
            if key == wanted:
                return frames
        self._held.append((wanted, read_recording(item, model, folder)))
        return self._held[-1][1]
