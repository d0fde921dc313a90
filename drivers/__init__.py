"""The drivers and probes in the tree: they get no privilege that one from outside lacks."""
