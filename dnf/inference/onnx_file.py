"""Write a trained model as an ONNX file with a JSON file that describes it, and check that it computes the same."""

from __future__ import annotations

import importlib
import json
import logging
import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

import dnf
from dnf.experiment.files import write_json
from dnf.inference.onnx_graph import RecordingGraph
from dnf.inference.system import Model

SAME = (
    1e-3  # largest difference of an output, nats, between the file and PyTorch; rounding to float16 can go either way
)
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def check_exportable(system: Model) -> None:
    """Raise ``ValueError`` for what cannot be an ONNX file."""
    if system.trained.config.has_vectors:
        raise ValueError("the model takes one vector of a recording, and only models of frames can be an ONNX file")
    if system.trained.config.features.dither:
        raise ValueError("features.dither: an ONNX file adds no random noise; train with features.dither=0")
    if system.trained.config.cmvn.scope == "window":
        raise ValueError("cmvn.scope: window has no ONNX graph; export a folder, or train with another cmvn.scope")
    if system.calibration is None or system.open_set is None:
        raise ValueError("the model has no calibration or no open-set score; run stage decide (--stage 7)")
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError:
            raise ValueError(f"{name} is not installed: python3 -m pip install {' '.join(PACKAGES)}") from None


def description(system: Model, graph: RecordingGraph, opset: int) -> dict:
    """The JSON file: input, outputs, and the numbers behind the decisions."""
    config = system.trained.config
    return {
        "program": f"dnf-speech {dnf.__version__}",
        "classes": system.trained.classes,
        "input": {"samples": "(T,) float32 in -1..1, one channel, one recording"},
        "sampling_rate": config.features.sampling_rate,
        "outputs": graph.outputs,
        "scores": [name or "score" for name in system.assessments],
        "priors": system.config.calibrate.priors or "equal",
        "open_set_threshold": system.open_set.threshold,
        "open_set_false_alarm": system.open_set.false_alarm,
        "seconds_of_a_frame": config.features.frame_shift,
        "frames_of_a_vector": [config.splice.left, 1, config.splice.right],
        "hop": config.splice.hop,
        "opset": opset,
    }


def description_of(path: Path) -> Path:
    """The JSON file that describes an ONNX file."""
    return path.with_suffix(".card.json")


def trial(config) -> torch.Tensor:
    """Two seconds of noise with pauses, to trace the graph and to compare the file with it."""
    rate = config.features.sampling_rate
    time = torch.arange(2 * rate) / rate
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    return noise * torch.where(torch.sin(2 * torch.pi * 2.3 * time) > -0.3, 0.1, 1e-4)


def write_onnx(system: Model, path: Path, opset: int) -> None:
    """Write ``path`` and ``<stem>.card.json`` beside it.

    Raises:
        ValueError: the model cannot be exported, a package is missing, or the file computes other values than PyTorch.
    """
    check_exportable(system)
    graph, samples = RecordingGraph(system).eval(), trial(system.trained.config)
    facts = description(system, graph, opset)
    logging.disable(logging.WARNING)  # the exporter reports each of its rewrites
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            expected = graph(samples)
            exported = torch.export.export(graph, (samples,), dynamic_shapes=({0: torch.export.Dim.AUTO},), strict=True)
            program = torch.onnx.export(
                exported,
                dynamo=True,
                opset_version=opset,
                input_names=["samples"],
                output_names=list(graph.outputs),
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exception depends on the operator; the first lines of the message are general
        what = str(error).strip().splitlines()[-1]
        raise ValueError(f"a flow of kind {system.trained.config.flow.kind} cannot be exported: {what}") from error
    finally:
        logging.disable(logging.NOTSET)
    made = program.model.opset_imports[""]
    if made != opset:
        raise ValueError(f"--opset {opset}: PyTorch's exporter cannot write it, but {made}; give {made}")
    program.model.metadata_props.update({name: json.dumps(value) for name, value in facts.items()})
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        program.save(part)
        compare(part, samples.numpy(), dict(zip(graph.outputs, (value.numpy() for value in expected), strict=True)))
        write_json(description_of(path), facts)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def compare(path: Path, samples: np.ndarray, expected: Mapping[str, np.ndarray]) -> None:
    """Raise ``ValueError`` if the file's outputs differ from ``expected``."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(path)
    except Exception as error:  # onnxruntime has its own exceptions, without a common class
        raise ValueError(
            f"onnxruntime cannot read the file: {str(error).splitlines()[0]}; try another --opset"
        ) from None
    for (name, wanted), value in zip(expected.items(), session.run(None, {"samples": samples})):
        if value.shape != wanted.shape or np.abs(value.astype(float) - wanted).max() > SAME * max(
            1, np.abs(wanted).max()
        ):
            raise ValueError(f"{path}: {name} differs from what PyTorch computes; report this with the settings")
