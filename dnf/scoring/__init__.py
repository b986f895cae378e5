"""Latents and log-likelihoods of sets."""
