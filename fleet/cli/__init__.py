"""The commands: the same verbs as the TUI, for scripts. What `anew --help` and `anew status` import is kept small on purpose."""
