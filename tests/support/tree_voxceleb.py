"""Miniature VoxCeleb1 and VoxCeleb2: real names of folders and files, and the meta files in their real form."""

from pathlib import Path

import soundfile

RATE = 16000
VIDEOS = ("1zcIwhmdeo4", "-GHdGUu8C6o", "Y8hIVOBuels")  # the ids of videos may start with a dash
SPEAKERS = (  # id, name, nationality, part
    ("id10001", "A.J._Buckley", "Ireland", "dev"),
    ("id10002", "A.R._Rahman", "India", "dev"),
    ("id10003", "Aamir_Khan", "India", "dev"),
    ("id10004", "Aaron_Tveit", "USA", "dev"),
    ("id10270", "Eartha_Kitt", "USA", "test"),
    ("id10271", "Eartha_Other", "UK", "test"),
)
SPEAKERS2 = (("id00012", "n000012"), ("id00015", "n000015"))


def make(root: Path, voices, suffix: str = ".wav") -> tuple[Path, Path]:
    """Write ``root/VoxCeleb1`` and ``root/VoxCeleb2``, spoken by the English voices.

    Args:
        root: where the two go.
        voices: lists of (speaker, gender, int16 utterances) by class.
        suffix: of the recordings of VoxCeleb2, .wav or .flac.
    """
    one, two = root / "VoxCeleb1", root / "VoxCeleb2"
    english = voices["en"]
    meta = ["VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet"]
    for (speaker, name, nationality, part), (_, gender, utterances) in zip(SPEAKERS, english):
        meta.append(f"{speaker}\t{name}\t{gender}\t{nationality}\t{part}")
        speak(one / "wav" / speaker, utterances, ".wav")
    meta.append("id10309\tEmpty_Line\tm\tUSA\ttest")  # in the meta file, but without recordings
    (one / "vox1_meta.csv").write_text("".join(f"{line}\n" for line in meta), encoding="utf-8")
    meta = ["VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set"]
    for (speaker, name), (_, gender, utterances) in zip(SPEAKERS2, english[len(SPEAKERS) :]):
        meta.append(f"{speaker} ,{name} ,{gender} ,dev")
        speak(two / "dev" / "aac" / speaker, utterances, suffix)
    (two / "vox2_meta.csv").write_text("".join(f"{line}\n" for line in meta), encoding="utf-8")
    return one, two


def speak(folder: Path, utterances, suffix: str) -> None:
    """Write the utterances of a speaker, the k-th from the k-th video."""
    for video, samples in zip(VIDEOS, utterances):
        path = folder / video / f"00001{suffix}"
        path.parent.mkdir(parents=True)
        soundfile.write(path, samples, RATE, subtype="PCM_16")
