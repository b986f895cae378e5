"""Frames and vectors: filter banks, VAD, CMVN, frame stores, spliced windows, augmentation."""
