"""SPHERE files as NIST's tools wrote them: a header of 1024 bytes, then the samples, low byte first."""

from __future__ import annotations

import numpy as np

RATE = 16000


def content(samples: np.ndarray, *fields: str, count: int | None = None) -> bytes:
    """The bytes of a file of samples ``(T,)`` int16 at 16 kHz.

    Args:
        samples: of its one channel.
        fields: other lines of the header, such as ``speaker_id -s3 011``.
        count: number of samples according to the header, if not T.
    """
    lines = (
        "NIST_1A",
        "   1024",
        *fields,
        "channel_count -i 1",
        f"sample_count -i {count or len(samples)}",
        f"sample_rate -i {RATE}",
        f"sample_max -i {samples.max()}",
        f"sample_min -i {samples.min()}",
        "sample_n_bytes -i 2",
        "sample_byte_format -s2 01",
        "sample_sig_bits -i 16",
        "end_head\n",
    )
    return "\n".join(lines).encode().ljust(1024) + samples.astype("<i2").tobytes()
