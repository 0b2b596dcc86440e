"""URLs of storages: files, hosts, and passwords, which are never written down or shown.

A storage is known by its URL without the password. The password is taken from the option that gave
it, from LRFINDER_STORAGE where that names the same storage, or from what the database's own client
reads, such as PGPASSWORD and ~/.pgpass.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from lrfinder.paths import resolved

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

VARIABLE = "LRFINDER_STORAGE"
"""Environment variable that may hold the URL of a storage with its password."""
_SECRET = ("password", "passwd", "pwd", "sslpassword")
_IN_A_STRING = re.compile(r"(?i)\b(pwd|password)\s*=\s*[^;]*;?")  # of odbc_connect
_AFTER_A_USER = re.compile(r"(://[^/@:]*):.*@")


def file_url(path: Path) -> str:
    """URL of a SQLite file, whatever it is called."""
    from sqlalchemy.engine import URL

    return URL.create("sqlite", database=str(path)).render_as_string()


def is_journal(url: str) -> bool:
    """Whether this is the path of a journal file, as on a disk that several machines share.

    >>> is_journal("runs/study.journal"), is_journal("sqlite:///study.journal"), is_journal("study")
    (True, False, False)
    """
    return "://" not in url and url.endswith((".journal", ".log")) and url.isprintable()


def is_for_one_machine(url: str) -> bool:
    """Whether several processes cannot work in it side by side: SQLite."""
    parsed = _parsed(url)
    return parsed is not None and parsed.get_backend_name() == "sqlite"


def from_anywhere(url: str) -> str:
    """The URL with a relative file made absolute; any other as it is."""
    if is_journal(url):
        return str(resolved(Path(url)))
    file, parsed = file_of(url), _parsed(url)
    if file is None or parsed is None or file.is_absolute():
        return url
    absolute = parsed.set(database=str(resolved(file)))
    return absolute.render_as_string(hide_password=False)


def file_of(url: str) -> Path | None:
    """File of a SQLite URL or of a journal; None for memory and every other storage."""
    if is_journal(url):
        return Path(url)
    parsed = _parsed(url)
    if parsed is None or parsed.get_backend_name() != "sqlite":
        return None
    name = parsed.database
    if not name or name == ":memory:" or name.startswith("file:"):
        return None
    return Path(name)


def host_of(url: str) -> str | None:
    """Host that a URL leads to; None for a file and for this machine's own server."""
    parsed = _parsed(url)
    if parsed is None:
        return None
    hosts = parsed.query.get("host", ())
    named = [parsed.host, *([hosts] if isinstance(hosts, str) else hosts)]
    found = [host for host in named if host and not host.startswith("/")]  # "/": a socket
    return ", ".join(found) or None


def without_password(url: str) -> str:
    """The URL as it may be written down and shown."""
    parsed = _parsed(url)
    if parsed is None:
        return _AFTER_A_USER.sub(r"\1@", url)
    if not _secrets(parsed):
        return url
    query = {
        key: _IN_A_STRING.sub("", value) if isinstance(value, str) else value
        for key, value in parsed.query.items()
        if key.lower() not in _SECRET
    }
    bare = type(parsed).create(
        parsed.drivername, parsed.username, None, parsed.host, parsed.port, parsed.database, query
    )
    return bare.render_as_string()


def with_password(url: str) -> str:
    """The URL to open: that of the environment, where it names the same storage."""
    known = os.environ.get(VARIABLE)
    parsed = _parsed(url)
    if not known or parsed is None or _secrets(parsed):
        return url
    return known if _parsed(without_password(known)) == parsed else url


def censored(text: str, url: str) -> str:
    """The text without the passwords of a URL."""
    parsed = _parsed(url)
    for secret in [] if parsed is None else _secrets(parsed):
        text = text.replace(secret, "***")
    return text


def _secrets(url: "URL") -> list[str]:
    """Passwords in a URL, and strings that hold one."""
    found = [str(url.password)] if url.password else []
    for key, value in url.query.items():
        values = [value] if isinstance(value, str) else list(value)
        if key.lower() in _SECRET:
            found += values
        found += [match[0] for one in values for match in _IN_A_STRING.finditer(one)]
    return [secret for secret in found if secret]


def _parsed(url: str) -> "URL | None":
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        return None
