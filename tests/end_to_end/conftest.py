"""A PostgreSQL server for the tests that need one."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def server():
    """A PostgreSQL server of our own; yields its URL with a password, and start and stop."""
    programs = {name: shutil.which(name) for name in ("initdb", "pg_ctl")}
    if os.environ.get("LRFINDER_SERVER") != "required":
        pytest.importorskip("psycopg")
        if None in programs.values():
            pytest.skip("PostgreSQL is not installed")
    user = "postgres" if os.geteuid() == 0 else None
    if user is not None and user not in {entry.pw_name for entry in pwd.getpwall()}:
        pytest.skip("PostgreSQL does not run as root")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "password").write_text("s3cret")
        data = folder / "data"
        data.mkdir()
        if user is not None:
            shutil.chown(data, user)

        def do(*words: str) -> None:
            done = subprocess.run(words, user=user, capture_output=True, text=True, cwd="/")
            assert done.returncode == 0, done.stdout + done.stderr

        def begin() -> None:
            options = f"-p {port} -k '' -h 127.0.0.1"
            log = str(data / "log")
            do(programs["pg_ctl"], "-D", str(data), "-l", log, "-w", "-o", options, "start")

        def end() -> None:
            do(programs["pg_ctl"], "-D", str(data), "-w", "-m", "immediate", "stop")

        login = ["-U", "me", "--auth", "scram-sha-256", "--pwfile", str(folder / "password")]
        do(programs["initdb"], "-D", str(data), *login)
        begin()
        try:
            yield f"postgresql+psycopg://me:s3cret@127.0.0.1:{port}/postgres", begin, end
        finally:
            end()
