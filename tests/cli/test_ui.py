"""`qwave ui`: both dashboards answer, and both end with the command."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from qwave.cli import main
from qwave.cli.serving import free_port
from qwave.config import ConfigError

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_both_servers_answer_and_end_with_ctrl_c(searched: object) -> None:
    store = str(searched.store)  # type: ignore[attr-defined]
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = str(listener.getsockname()[1])
        process = subprocess.Popen(
            [sys.executable, "-m", "qwave", "ui", "--store", store]
            + ["--mlflow-port", taken, "--optuna-port", taken],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            text=True,
            # As in a terminal: a test run started in the background ignores Ctrl-C, and children
            # inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(2)]
    addresses = [line.split()[-1] for line in lines]
    assert [line.split(":")[0] for line in lines] == ["MLflow UI", "optuna-dashboard"]
    assert len(set(addresses)) == 2
    for address in addresses:
        assert address.startswith("http://127.0.0.1:")
        assert not address.endswith(f":{taken}")
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert answer.status == 200
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    process.stdout.close()
    for address in addresses:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", int(address.rsplit(":", 1)[1])))


def test_a_folder_without_a_search_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ui", "--store", str(tmp_path / "none")]) == 2
    assert "holds no search yet: run `qwave search` first" in capsys.readouterr().err


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(ConfigError, match=f"a number from 1 to 65535, but got {port}"):
        free_port(port)


def test_a_free_port_is_kept_and_one_in_use_replaced() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = int(listener.getsockname()[1])
        assert free_port(port) != port
    assert free_port(port) == port
    assert free_port(port, taken=port) != port
