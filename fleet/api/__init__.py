"""HTTP/1.1 over a Unix socket: versioned frames, the server in the daemon, the client of commands and of the TUI."""
