"""The command `qwave` itself: its help, its exit codes, and how little it loads to say them."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from importlib import metadata
from typing import NoReturn

import pytest

from qwave.cli import export, main
from qwave.config import StoreError

HEAVY = ("torch", "numpy", "mlflow", "optuna", "sklearn", "matplotlib", "onnx", "pandas")


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"qwave {metadata.version('qwave')}\n"


def test_help_names_the_commands_and_their_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "hand over models of a finished search" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["export", "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    for option in (
        *("TRIAL", "--front", "--budget", "--sweep", "--store", "--out", "--no-refit"),
        *("--onnx", "--no-register", "--device", "--json"),
    ):
        assert option in said, option


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["exprot"], "invalid choice: 'exprot'"),
        (["export", "twelve"], "argument TRIAL: invalid int value: 'twelve'"),
        (["export", "1", "2"], "unrecognized arguments: 2"),
    ],
)
def test_arguments_that_do_not_parse_end_with_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_help_loads_nothing_heavy(fresh_python: Callable[..., str]) -> None:
    code = (
        "import sys\n"
        "from qwave.cli import main\n"
        "for arguments in (['--help'], ['export', '--help'], ['export']):\n"
        "    try:\n"
        "        main(arguments)\n"
        "    except SystemExit:\n"
        "        pass\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))\n"
    )
    assert fresh_python(code).splitlines()[-1] == "[]"


# --- exit codes of what a command raises ---


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], int]], int]:
    """The exit code of a command that does this."""

    def run(does: Callable[[], int]) -> int:
        monkeypatch.setattr(export, "run", lambda arguments: does())
        return main(["export"])

    return run


def refuse() -> NoReturn:
    raise StoreError("--store x is not one")


def interrupt() -> NoReturn:
    raise KeyboardInterrupt


def warn() -> int:
    warnings.warn("leakage cannot be ruled out", UserWarning, stacklevel=2)
    return 0


def fail() -> NoReturn:
    raise RuntimeError("a fault of the program")


def test_wrong_input_is_one_message_and_exit_code_2(
    ending: Callable[[Callable[[], int]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ending(refuse) == 2
    assert capsys.readouterr() == ("", "error: --store x is not one\n")


def test_ctrl_c_is_exit_code_130(
    ending: Callable[[Callable[[], int]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ending(interrupt) == 130
    assert capsys.readouterr() == ("", "stopped\n")


def test_warnings_are_notes_and_the_command_goes_on(
    ending: Callable[[Callable[[], int]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")  # as outside of these tests
        assert ending(warn) == 0
    assert capsys.readouterr() == ("", "note: leakage cannot be ruled out\n")


def test_other_errors_are_not_hidden(ending: Callable[[Callable[[], int]], int]) -> None:
    with pytest.raises(RuntimeError, match="a fault of the program"):
        ending(fail)


def test_what_a_command_returns_is_the_exit_code(
    ending: Callable[[Callable[[], int]], int],
) -> None:
    assert ending(lambda: 1) == 1


def test_defaults_are_those_of_the_main_job() -> None:
    parser = argparse.ArgumentParser()
    export.add_arguments(parser)
    found = vars(parser.parse_args(["12"]))
    assert {key: str(value) for key, value in found.items()} == {
        **{"trial": "12", "front": "False", "budget": "None", "sweep": "moe_pareto"},
        **{"store": "mlruns", "out": "None", "refit": "True", "onnx": "False"},
        **{"register": "True", "device": "cpu", "json": "False"},
    }
