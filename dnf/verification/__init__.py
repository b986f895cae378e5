"""Verification: whether two utterances are of one speaker, by back-ends on vectors and latents."""
