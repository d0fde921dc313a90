"""The code that makes incarnations live on a kind of machine, and the probes that ask whether they are well.

Found by entry point (`anew.drivers`, `anew.probes`); imports `fleet.ports` and `fleet.core` only. See
README.md.
"""
