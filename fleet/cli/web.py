"""`anew web`: the terminal UI in a browser, for a colleague without SSH; an observer's, whatever is pressed there.

This module is also the program behind each visitor: `python -m fleet.cli.web SOCKET TERMINAL`, started by tui/web.py.
"""

from __future__ import annotations

import errno
import ipaddress
import re
import sys
from typing import TYPE_CHECKING

from fleet.core.errors import Invalid, Refused

if TYPE_CHECKING:
    from fleet.cli.context import Context

_PUBLIC = re.compile(r"https?://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?")


def web(context: Context) -> int:
    """Serve until ctrl+c; the address with its secret goes to stdout."""
    from fleet.registry import load_web

    options = context.options
    address, port, public = _loopback(options.address), options.port, options.public_url.rstrip("/")
    if not 0 <= port <= 65535:
        raise Invalid(f"{port} is no port: 1 to 65535, or 0 for any that is free", where="--port", code="usage")
    if public and not _PUBLIC.fullmatch(public):
        raise Invalid("this is no address of a proxy: https://NAME or https://NAME:PORT, and no path", where="--public-url", code="usage")
    serve = load_web()
    command = [sys.executable, "-P", "-m", "fleet.cli.web", context.client.socket_path]

    def told(url: str, bound: int) -> None:
        if context.as_json:
            context.data({"url": url, "address": address, "port": bound}, one_line=True)
        else:
            print(url, flush=True)
        context.note("Who has this address looks on, and can change nothing. ctrl+c ends it.")
        if not public:
            context.note(f"From another machine, first: ssh -N -L {bound}:{f'[{address}]' if ':' in address else address}:{bound} THIS-MACHINE")

    try:
        return serve(command, address, port, public, told)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Refused("something else listens there; choose another port with --port, or 0 for any that is free", where=f"{address} port {port}", code="port-taken") from error
        raise Refused(f"this cannot be listened on: {error.strerror}", where=f"{address} port {port}", code="port") from error


def _loopback(wanted: str) -> str:
    """The address, if it is one of this machine's loopback."""
    try:
        found = ipaddress.ip_address("127.0.0.1" if wanted == "localhost" else wanted)
    except ValueError as error:
        raise Invalid("this is no IP address; 127.0.0.1 is the usual one", where="--address", code="usage") from error
    if not found.is_loopback:
        raise Refused("anew web listens on loopback only, for it has no passwords and no TLS; put an SSH tunnel (ssh -L) or a reverse proxy with both before it",
                      where=f"--address {wanted}", code="not-loopback")
    return str(found)


def _visit(socket: str, terminal: str) -> int:
    """The terminal UI of one visitor."""
    from fleet.cli.main import report_faults
    from fleet.cli.terminal import open_view

    report_faults()
    return open_view(socket, terminal)


if __name__ == "__main__":
    sys.exit(_visit(*sys.argv[1:]))
