import argparse

import pytest

from speechmlp.errors import MAX_PROBLEMS_SHOWN, UserError, run_command


def run(error: BaseException) -> int:
    def command(_: argparse.Namespace) -> int:
        raise error

    return run_command(argparse.ArgumentParser(), command, [])


def test_user_errors_give_one_line_each_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(UserError("a.wav: broken\nheader", "b.wav: empty")) == 2
    assert capsys.readouterr().err.splitlines() == ["error: a.wav: broken header", "error: b.wav: empty"]


def test_long_lists_of_problems_are_cut_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(UserError(*(f"file {number}" for number in range(MAX_PROBLEMS_SHOWN + 5)))) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == MAX_PROBLEMS_SHOWN + 1
    assert lines[-1] == "error: and 5 more problems of this kind"


def test_ctrl_c_prints_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_bugs_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run(ZeroDivisionError())
