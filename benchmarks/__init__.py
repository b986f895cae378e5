"""Benchmarks of the speed and memory of the parts."""
