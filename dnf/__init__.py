"""Discriminative normalization flows on speech.

Importing the package loads nothing heavy: every stage is a module of its own, run as ``python3 -m dnf.<package>.<module>``, and what people type is ``python3 -m dnf VERB``.
"""

import importlib
import sys

__version__ = "0.3.0"

# python3 -m puts the working folder first, where a queue.py or yaml.py would be taken for the library's
if sys.argv[:1] == ["-m"] and not getattr(sys.flags, "safe_path", False):
    del sys.path[0]


def __getattr__(name: str):
    """``dnf.Classifier``, imported when somebody asks for it."""
    if name == "Classifier":
        return importlib.import_module("dnf.inference.classifier").Classifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
