"""Speed and memory of the parts, measured."""
