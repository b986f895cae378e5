"""Write the spliced speech vectors of all sets as arks, for use in Kaldi; training needs none (``dnf.features.windows``)."""

from __future__ import annotations

from pathlib import Path

import kaldiio
import torch

from dnf.experiment import entry
from dnf.experiment.config import add_arguments, resolve
from dnf.experiment.layout import META_JSON
from dnf.experiment.settings import Cmvn, Splice
from dnf.features.frame_store import FrameStore
from dnf.features.windows import Windows


def write_spliced(store: FrameStore, splice: Splice, cmvn: Cmvn, out: Path) -> None:
    """Write ``spliced.ark`` and ``spliced.scp``: the spliced speech frames of each utterance."""
    windows = Windows([store], splice, cmvn, [], keep_unseen=True, device=torch.device("cpu"))
    out.mkdir(parents=True, exist_ok=True)
    with kaldiio.WriteHelper(f"ark,scp:{out}/spliced.ark,{out}/spliced.scp") as writer:
        for segment in windows.segments():
            writer(segment.utt, windows.gather(torch.arange(segment.first, segment.first + segment.rows)).numpy())


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("frames", type=Path, help="folder of the stores")
    parser.add_argument("out", type=Path, help="folder for <set>/spliced.{ark,scp}")
    add_arguments(parser)
    args = parser.parse_args(argv)
    config = resolve(args.layers)
    for path in sorted(args.frames.glob(f"*/{META_JSON}")):
        write_spliced(FrameStore(path.parent), config.splice, config.cmvn, args.out / path.parent.name)
    return 0


if __name__ == "__main__":
    entry.run(main)
