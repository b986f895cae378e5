"""Statistics on arrays: detection, intervals, correlation, Gaussianity. Imports nothing else of ``dnf``."""
