"""Classify recordings: posteriors of a trained model, an open-set flag, and warnings about the recording.

    ./utils/classify.sh exp/dnf120 a.wav b.flac                a header, then one line per recording, tab separated
    ./utils/classify.sh exp/dnf120 --json --plot pictures a.wav
    ./utils/classify.sh exp/dnf120/baselines/mlp --data-dir data/test
    ./utils/classify.sh exp/fused --data-dir data/test         a fused system (dnf fuse), with its members beside it

Recordings can have any rate, length and number of channels. The model folder needs config.yaml and best.pt. With
calibration.json the posteriors are calibrated. With open_set.json a recording can be of none of the classes. With
channel.json, or the frame stores of training to compute it from, a recording with an unusual channel gets a warning. With
assess.npz a recording gets predicted expert scores with their 80 % intervals, and of the main one what lowers it: timing, sound
or both. If the model was trained with cmvn.scope speaker, a recording counts as a speaker, and consecutive utterances of a speaker in a data
directory are normalized together.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import logging
import math
import random
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dnf.decisions.doubt import FOREIGN, words
from dnf.experiment import entry
from dnf.experiment.environment import choose_device
from dnf.experiment.layout import is_fused
from dnf.features.extractor import make_extractor
from dnf.features.recording_frames import RecordingFrames
from dnf.inference.fused_system import FusedSystem
from dnf.inference.predicted_score import (
    COLUMNS_OF_SCORE,
    LONGEST,
    Utterance,
    columns_of_scores,
    of_frames,
    part_of,
    predicted,
    timing_of,
)
from dnf.inference.read_recording import SharedFrames, read_recording
from dnf.inference.recording_vector import RecordingVector
from dnf.inference.recordings import Item, picture_names, read_items
from dnf.inference.score_recording import log_density, score
from dnf.inference.system import Means, Model, judge, load_system
from dnf.inference.timeline import Timeline
from dnf.metrics.figures import MAIN
from dnf.scoring.channel_model import ChannelModel, Mismatch
from dnf.scoring.channel_statistics import statistics

log = logging.getLogger(__name__)

LITTLE = 1.0  # a recording with fewer seconds of speech gets a warning
LEAST_HEARD, MOST_HEARD = 5, 2000  # fewest recordings for a verdict on them as a set, and most that it is from


class Classified(NamedTuple):
    """A recording: its record of plain values, speaker, statistics ``(S,)`` of its channel, and timeline if asked for."""

    record: dict[str, Any]
    speaker: str
    statistics: np.ndarray | None
    picture: Timeline | None


class Heard:
    """The channels of at most ``MOST_HEARD`` recordings, drawn from all, for the verdict on them as a set."""

    def __init__(self):
        self.count, self.vectors, self.speakers, self._rng = 0, [], [], random.Random(0)

    def add(self, vector: np.ndarray, speaker: str) -> None:
        """Add the statistics ``(S,)`` of a recording."""
        self.count += 1
        if self.count <= MOST_HEARD:
            self.vectors.append(vector.astype(np.float32))
            self.speakers.append(speaker)
        elif (place := self._rng.randrange(self.count)) < MOST_HEARD:
            self.vectors[place], self.speakers[place] = vector.astype(np.float32), speaker

    def verdict(self, channels: ChannelModel | None) -> str:
        """The verdict in words; empty for few recordings, or without channels of training."""
        if channels is None or self.count < LEAST_HEARD:
            return ""
        return channels.compare_set(np.stack(self.vectors).astype(np.float64), self.speakers).sentence


def classify(
    items: Sequence[Item],
    model: Model,
    plots: Path | None = None,
    window: float | None = None,
    every: int = 1,
    heard: Heard | None = None,
    read_recording: Callable[[Item, Model, Path], RecordingFrames] = read_recording,
) -> Iterator[dict[str, Any]]:
    """One record of plain values per item, in order; an unusable recording has ``error`` instead of a class.

    Args:
        plots: folder for a timeline picture of each recording.
        window: seconds of the moving average in pictures.
        every: score every N-th vector.
        heard: gets the channel of each recording.
        read_recording: reads a recording for a model into a folder.
    """
    scope, pictures = model.trained.config.cmvn.scope, picture_names(items) if plots else {}
    together = (lambda item: item.group) if scope == "speaker" else (lambda item: item.name)
    for _, group in itertools.groupby(items, together):
        with tempfile.TemporaryDirectory(prefix="classify.") as folder:
            read: list[tuple[Item, RecordingFrames | ValueError]] = []
            for n, item in enumerate(group):
                try:
                    place = Path(folder) / str(n)
                    read.append((item, read_recording(item, model, place)))
                except ValueError as error:
                    log.error("%s", error)
                    read.append((item, error))
            stats = sum((frames.stats for _, frames in read if isinstance(frames, RecordingFrames)), 0.0)
            for item, frames in read:
                if isinstance(frames, ValueError):
                    yield {"recording": item.name, "error": str(frames)}
                    continue
                normalized_by = stats if scope == "speaker" else frames.stats
                try:
                    done = classify_one(item, frames, normalized_by, model, plot=plots is not None, every=every)
                except ValueError as error:
                    log.error("%s: %s", item.source.path, error)
                    yield {"recording": item.name, "error": f"{item.source.path}: {error}"}
                    continue
                if heard is not None and done.statistics is not None:
                    heard.add(done.statistics, done.speaker)
                if plots is not None:
                    done.record["picture"] = str(plots / f"{pictures[item]}.png")
                    save_picture(done.record, done.picture, model, window)
                yield done.record


def classify_fused(items: Sequence[Item], system: FusedSystem, heard: Heard | None = None) -> Iterator[dict[str, Any]]:
    """One record per item as of ``classify``: that of the first member, with the class and posteriors of the fusion.

    A recording that a member cannot use has its ``error``. The doubt is that of the first member that has one.
    """
    classes, doubting = system.classes, system.doubting
    listeners = [heard if n == doubting else None for n in range(len(system.members))]
    read_once = SharedFrames().read
    of_members = (
        classify(items, member, heard=listener, read_recording=read_once)
        for member, listener in zip(system.members, listeners)
    )
    for records in zip(*of_members, strict=True):
        failed = next((record for record in records if "error" in record), None)
        if failed:
            yield failed
            continue
        loglik = [np.array([record["loglik"][name] - record["bias"][name] for name in classes]) for record in records]
        doubted = records[doubting]
        posteriors = system.posteriors(loglik, [record["vectors"] for record in records], doubted["factor"])
        decision = {"class": classes[int(posteriors.argmax())], "posteriors": dict(zip(classes, posteriors.tolist()))}
        doubt = doubted["doubt"] and words(posteriors[None], [doubted["doubt"] == FOREIGN])[0]
        yield records[0] | decision | {"calibrated": True, "doubt": doubt, "factor": doubted["factor"]}


def classify_one(
    item: Item, frames: RecordingFrames, stats: np.ndarray, model: Model, *, plot: bool, every: int
) -> Classified:
    """Classify one recording."""
    classes, shift = model.trained.classes, model.trained.config.features.frame_shift
    picture = Timeline(frames.count, frames.dim, classes, shift) if plot else None
    sums, scored, fit = [0.0, 0.0, 0.0, 0.0, 0.0], 0, None
    if frames.seconds <= LONGEST:
        fit = model.assessments.get(MAIN)
    for block in score(frames, stats, model.trained, model.device, model.correction, every):
        logp, logdet = block.logp.double(), block.logdet.double()
        mixture = logp.logsumexp(1) - math.log(len(classes))
        z = block.z.double()
        squashed = model.trained.model.prior.squashed(block.z.to(model.device)).double().cpu() if fit else 0 * z
        parts = (part.sum(0).numpy() for part in (logp, mixture, logdet, z, squashed))
        sums, scored = [total + part for total, part in zip(sums, parts)], scored + len(logp)
        if picture:
            sound = of_frames(fit, z, squashed) if fit and "latents" in fit.models else None
            picture.add_scores(block.centres.numpy(), (logp + logdet[:, None]).numpy(), sound)
    logp, mixture, logdet, z, squashed = (total / scored for total in sums)
    means = Means(logp, float(mixture), float(logdet), z, frames.rows(model.trained.config.splice.hop))
    vector = channel_of(frames, model, picture)
    mismatch = None if model.channel is None else model.channel.compare(vector)
    density = None
    if flow := model.flow:
        density = log_density(score(frames, stats, flow.trained, flow.device, flow.correction, every))
    judged = judge(model, means, vector, density)
    best = int(judged.posteriors.argmax())
    record = {
        "recording": item.name,
        "class": classes[best],
        "posteriors": {name: float(p) for name, p in zip(classes, judged.posteriors)},
        "calibrated": judged.calibrated,
        "open_set": judged.none_of_these,
        "doubt": judged.doubt,
        "factor": round(judged.factor, 4),
        "loglik": {name: float(value) for name, value in zip(classes, means.loglik)},
        "bias": {name: float(value) for name, value in zip(classes, judged.bias)},
        "seconds": round(frames.seconds, 3),
        "speech_seconds": round(frames.speech * shift, 3),
        "vectors": scored,
        "sampling_rate": frames.rate,
        "normalized_over": {"none": "nothing", "utterance": "recording"}.get(
            model.trained.config.cmvn.scope, item.group.split()[0]
        ),
    }
    record |= channel_and_warnings(frames, model, mismatch, judged.doubt == FOREIGN)
    if fit:
        record |= score_of_recording(frames, means, squashed, model, picture)
    return Classified(record, item.group, vector, picture)


def score_of_recording(
    frames: RecordingFrames, means: Means, squashed: np.ndarray, model: Model, picture: Timeline | None
) -> dict[str, Any]:
    """The predicted score of a recording, from its timing and mean latents. Also fills the picture's pauses."""
    fit, reference = model.assessments[MAIN], model.trained.classes.index(model.reference)
    times, pauses = timing_of(frames, model.trained.config.features.frame_shift)
    utterance = Utterance(times, np.concatenate([means.z, squashed]), means.loglik, means.rows)
    if picture and "latents" in fit.models:
        picture.pauses, picture.sound_part = pauses, part_of(fit, "latents", utterance.latents)
    return predicted(model.assessments, utterance, reference)


def channel_of(frames: RecordingFrames, model: Model, picture: Timeline | None) -> np.ndarray | None:
    """The statistics ``(S,)`` of a recording's channel; None without channels of training. Also fills the picture's spectrogram."""
    if model.channel is None and picture is None:
        return None
    if isinstance(frames, RecordingVector):
        return frames.vector

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for first, part, speech in frames.blocks():
            if picture:
                picture.add_frames(first, part)
            yield part, speech

    return statistics(blocks(), make_extractor(model.trained.config.features).frequencies)


def channel_and_warnings(
    frames: RecordingFrames, model: Model, mismatch: Mismatch | None, is_foreign: bool
) -> dict[str, Any]:
    """The channel of a recording and its warnings: an unusual channel, why it is foreign, a low rate, little speech."""
    settings, warnings, record = model.trained.config.features, [], {}
    if mismatch is not None:
        record["channel"] = {
            "distance": round(mismatch.distance, 3),
            "limit": round(mismatch.limit, 3),
            "nearest": mismatch.set,
            "unlike": mismatch.unlike,
        }
        if mismatch.unlike:
            warnings.append("unlike training: " + ", ".join(mismatch.unlike))
        elif is_foreign:
            warnings.append("unlike training, though no single difference stands out")
    if frames.rate < settings.sampling_rate:
        warnings.append(f"sampled at {frames.rate} Hz, below the {settings.sampling_rate} Hz of the model")
    if model.assessments and frames.seconds > LONGEST:
        warnings.append(f"longer than {LONGEST:g} s: no predicted score")
    if frames.speech * settings.frame_shift < LITTLE:
        warnings.append(f"only {frames.speech * settings.frame_shift:.2f} s of speech")
    return record | {"warning": "; ".join(warnings)}


def save_picture(record: dict[str, Any], picture: Timeline, model: Model, window: float | None) -> None:
    from dnf.inference.timeline_figure import draw  # slow to import, and only --plot needs it

    best = record["class"]
    title = f"{Path(record['recording']).name}: {best}, posterior {record['posteriors'][best]:.3f}"
    title += "" if record["calibrated"] else " (uncalibrated)"
    title += ", but probably an unknown class" if record["open_set"] else ""
    if "predicted_score" in record:
        value, low, high, lowered_by = (record[name] for name in COLUMNS_OF_SCORE)
        title += f"; predicted score {value:.1f} ({low:.1f}-{high:.1f}), lowered by {lowered_by}"
    frequencies = make_extractor(model.trained.config.features).frequencies.tolist()
    figure = draw(picture, title, window, frequencies, model.reference, model.config.plots.colours)
    Path(record["picture"]).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(record["picture"], dpi=model.config.plots.dpi)


def row_of(record: dict[str, Any], classes: Sequence[str], scores: Collection[str]) -> dict[str, Any]:
    """A record as a line of the table."""
    if "error" in record:
        return {"recording": record["recording"], "warning": f"error: {record['error']}"}
    flag = {True: "yes", False: "no", None: ""}
    return {
        "recording": record["recording"],
        "class": record["class"],
        **{f"posterior_{name}": f"{record['posteriors'][name]:.6f}" for name in classes},
        "calibrated": flag[record["calibrated"]],
        "open_set": flag[record["open_set"]],
        "doubt": record["doubt"] or "",
        "seconds": f"{record['seconds']:.2f}",
        "speech_seconds": f"{record['speech_seconds']:.2f}",
        "channel_distance": f"{record['channel']['distance']:.2f}" if "channel" in record else "",
        **{name: record.get(name, "") for name in columns_of_scores(scores)},
        "warning": record["warning"],
    }


def columns(classes: Sequence[str], scores: Collection[str]) -> list[str]:
    """Columns of the table; those of predicted scores if the model predicts some."""
    rest = ("calibrated", "open_set", "doubt", "seconds", "speech_seconds", "channel_distance")
    of_scores = columns_of_scores(scores) if scores else ()
    return ["recording", "class", *(f"posterior_{name}" for name in classes), *rest, *of_scores, "warning"]


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = entry.parser(__spec__, __doc__, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "model", type=Path, help="folder of an experiment, of one of its baselines, or of a fused system"
    )
    parser.add_argument("recordings", nargs="*", help="files of any format that libsndfile reads, and SPHERE")
    parser.add_argument("--data-dir", type=Path, help="all utterances of this Kaldi data directory")
    parser.add_argument("--json", action="store_true", help="one JSON object per line instead of the table")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw a timeline of each recording into DIR")
    parser.add_argument(
        "--window",
        type=float,
        help="window of the picture's moving average, in seconds (default: 3, more for long recordings)",
    )
    parser.add_argument(
        "--channel",
        type=int,
        help="channel of recordings with several, from 0 (default: as the model, or the mean)",
    )
    parser.add_argument(
        "--every",
        type=int,
        default=1,
        metavar="N",
        help="score every N-th vector only: neighbours share most of their frames, and time goes to scoring (%(default)s)",
    )
    parser.add_argument("--frames", type=Path, help="frame stores of training (default: those of the model)")
    entry.add_device(parser)
    args = parser.parse_intermixed_args(argv)
    if not args.recordings and not args.data_dir:
        parser.error("name recordings, or a data directory with --data-dir")
    if args.every < 1:
        parser.error(f"--every {args.every}: give 1 or more")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    device, fused = choose_device(args.device), None
    if is_fused(args.model):
        if args.plot or args.every > 1:
            raise ValueError(
                f"--plot, --every: {args.model} is a fused system; give these options with one of its members"
            )
        fused = FusedSystem.load(args.model, device)
    model = fused.members[0] if fused else load_system(args.model, args.frames, device)
    if model.vectors and args.plot:
        raise ValueError(
            f"--plot: {args.model} takes one vector of a recording, which has no timeline; leave --plot out"
        )
    features = model.trained.config.features
    items = read_items(args.recordings, args.data_dir, features.channel if args.channel is None else args.channel)
    if model.trained.config.cmvn.scope == "speaker" and args.recordings:
        log.warning("%s: trained with normalization over speakers: each recording counts as a speaker", args.model)
    classes, failed, heard = model.trained.classes, False, Heard()
    heads = columns(classes, model.assessments)
    writer = csv.DictWriter(sys.stdout, heads, "", "ignore", delimiter="\t", lineterminator="\n")
    if not args.json:
        writer.writeheader()
    if fused:
        records = classify_fused(items, fused, heard)
    else:
        records = classify(items, model, args.plot, args.window, args.every, heard)
    for record in records:
        failed |= "error" in record
        if args.json:
            print(json.dumps(record))
        else:
            writer.writerow(row_of(record, classes, model.assessments))
        sys.stdout.flush()
    if verdict := heard.verdict((fused.members[fused.doubting] if fused else model).channel):
        log.info("these recordings: %s", verdict)
    return int(failed)


if __name__ == "__main__":
    entry.run(main)
