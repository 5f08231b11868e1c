"""What ``qwave ui`` does: two servers as child processes, and the addresses where they answer."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import NamedTuple

from qwave.cli.running import say
from qwave.config import ConfigError, StoreError
from qwave.store import Store, has_studies

_HOST = "127.0.0.1"
_START_SECONDS = 120.0
_POLL_SECONDS = 0.2
_END_SECONDS = 10.0


class Server(NamedTuple):
    """A server to start.

    Attributes:
        name: Name of the server in messages.
        command: Words of the shell command; the first is a console script of an installed package.
        port: Port of 127.0.0.1 on which it listens.
    """

    name: str
    command: Sequence[str]
    port: int


def serve(arguments: argparse.Namespace) -> int:
    """Run ``qwave ui``; returns its exit code.

    Raises:
        StoreError: The folder is no store, or nothing was searched in it yet.
        ConfigError: A port is not a number from 1 to 65535.
    """
    store = Store(arguments.store)
    if not has_studies(store):
        raise StoreError(f"--store {store} holds no search yet: run `qwave search` first")
    mlflow_port = free_port(arguments.mlflow_port)
    optuna_port = free_port(arguments.optuna_port, taken=mlflow_port)
    mlflow = [*shlex.split(store.ui_command), "--host", _HOST, "--workers", "1"]
    optuna = [*shlex.split(store.dashboard_command), "--host", _HOST]
    servers = [
        Server("MLflow UI", [*mlflow, "--port", str(mlflow_port)], mlflow_port),
        Server("optuna-dashboard", [*optuna, "--port", str(optuna_port)], optuna_port),
    ]
    say(arguments, f"starting the MLflow UI and optuna-dashboard on {store}; Ctrl-C ends both")
    with running(servers, is_verbose=arguments.verbose) as processes:
        for server in servers:
            if not is_answering(server.port, processes[server.name]):
                return _report_end(server.name, processes[server.name])
            sys.stdout.write(f"{server.name + ':':18}http://{_HOST}:{server.port}\n")
            sys.stdout.flush()
        while True:
            for name, process in processes.items():
                if process.poll() is not None:
                    return _report_end(name, process)
            time.sleep(_POLL_SECONDS)


def free_port(wanted: int, taken: int = 0) -> int:
    """The port `wanted` of 127.0.0.1, or a free one where it is in use, or is `taken`.

    Raises:
        ConfigError: `wanted` is not a number from 1 to 65535.
    """
    if not 1 <= wanted <= 65535:
        raise ConfigError(f"a port must be a number from 1 to 65535, but got {wanted}")
    with socket.socket() as listener:
        # As the servers do: a port whose last connections are still closing is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((_HOST, 0 if wanted == taken else wanted))
        except OSError:  # in use, or below 1024 and not ours to take
            listener.bind((_HOST, 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def running(
    servers: Sequence[Server], *, is_verbose: bool
) -> Iterator[Mapping[str, subprocess.Popen[bytes]]]:
    """Start servers, by name; whatever happens, all of them have ended afterwards.

    Each has a session of its own, so that Ctrl-C reaches this process alone, which then ends them
    and the workers that they started.
    """
    output = None if is_verbose else subprocess.DEVNULL
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for server in servers:
            processes[server.name] = subprocess.Popen(
                _python_command(server.command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        yield processes
    finally:
        for process in processes.values():
            _end(process)


def _python_command(words: Sequence[str]) -> list[str]:
    """A console script run by this Python: its folder need not be on PATH."""
    script = next(iter(metadata.entry_points(group="console_scripts", name=words[0])))
    code = f"import sys; from {script.module} import {script.attr}; sys.exit({script.attr}())"
    return [sys.executable, "-c", code, *words[1:]]


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
            return


def is_answering(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Wait until a server takes connections; False if it ended, or took over two minutes."""
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((_HOST, port), timeout=1):
            return True
        time.sleep(_POLL_SECONDS)
    return False


def _report_end(name: str, process: subprocess.Popen[bytes]) -> int:
    code = process.poll()
    how = "does not answer" if code is None else f"ended with exit code {code}"
    sys.stderr.write(f"error: {name} {how}; --verbose shows what it prints\n")
    return 1
