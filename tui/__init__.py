"""The terminal UI of anew: a client of the daemon, nothing more."""
