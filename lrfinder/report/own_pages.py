"""Who may ask the dashboard's server: its own pages, under a name of this machine.

Any web page can make a browser ask 127.0.0.1, and by DNS rebinding read and change what is there
under a name of its own. Such requests name that page in their Host or Origin header.
"""

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_NAMES = ("127.0.0.1", "localhost", "[::1]")


def own_pages_only(app: WSGIApplication, port: int) -> WSGIApplication:
    """The application, which answers 403 to every request for, or from, another name or port."""
    hosts = {f"{name}:{port}" for name in _NAMES}
    if port == 80:  # where a browser leaves it out
        hosts |= set(_NAMES)
    origins = {f"http://{host}" for host in hosts}

    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        host, origin = environ.get("HTTP_HOST", ""), environ.get("HTTP_ORIGIN")
        if host.lower() in hosts and (origin is None or origin.lower() in origins):
            return app(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"This dashboard is at http://{_NAMES[0]}:{port}/ only.\n".encode()]

    return guarded
