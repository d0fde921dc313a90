"""The environment that anew reads, and what it sets for others: `anew info` and the pages are made from these tables. A test finds what is missing."""

from __future__ import annotations

READ = {
    "ANEW_FLEET": "the fleet file",
    "ANEW_SOCKET": "the daemon's socket",
    "ANEW_STATE": "the state folder",
    "ANEW_THEME": "theme of the terminal UI",
    "ANEW_ASCII": "1: no line-drawing characters in the terminal UI",
    "ANEW_FAILPOINT": "for tests of recovery: where a daemon fails on purpose; read by a daemon that is started by hand",
    "NO_COLOR": "set to anything but nothing: no colours, and the theme `mono` in the terminal UI",
    "TERM": "`dumb`: no colours and no terminal UI",
    "HOME": "where the XDG folders are that are not set",
    "XDG_CONFIG_HOME": "holds `anew/fleet.toml` and `anew/terminal.toml`; like the two below, a value that is no absolute path is ignored",
    "XDG_STATE_HOME": "holds the state folder `anew`",
    "XDG_RUNTIME_DIR": "holds the socket `anew/anew.sock`",
    "NOTIFY_SOCKET": "the daemon tells a service manager there that it is ready, stopping and alive; what it starts does not get it",
    "WATCHDOG_USEC": "how patient that service manager is; with WATCHDOG_PID: whom it means",
    "WATCHDOG_PID": "the process that WATCHDOG_USEC is for",
}
"""Name -> what it is, in the order of the pages."""

SET = {
    "ANEW_NAME": "the server's name",
    "ANEW_ADDRESS": "its address",
    "ANEW_VERSION": "its version",
    "ANEW_POOL": "its pool (not for hooks)",
}
"""What hooks and check commands get, with PATH and nothing else."""
