"""The errors: one tree, pickled without loss, and a batch that names its first failure."""

from __future__ import annotations

import pickle

import pytest

from ratesim import errors
from ratesim.limit import InvalidLimitError


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name.endswith("Error")])
def test_every_error_is_in_the_tree_and_is_pickled_whole(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, errors.RatesimError)
    argument = [1, errors.StorageTimeoutError("late"), None] if kind is errors.BatchError else "a cause; a remedy"
    error = kind(argument)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert {key: repr(value) for key, value in vars(copy).items()} == {key: repr(v) for key, v in vars(error).items()}


def test_a_batch_error_tells_how_many_failed_and_the_first_of_them() -> None:
    refused = errors.KeyRefusedError("'a\\x00': NUL")
    error = errors.BatchError([None, refused, 7, errors.StorageTimeoutError("late")])
    assert str(error) == "2 of 4 failed; the first, at 1: KeyRefusedError: 'a\\x00': NUL"
    assert error.results[:3] == [None, refused, 7]


def test_what_the_server_cannot_take_for_now_was_not_executed() -> None:
    assert not errors.StorageUnavailableError("read-only").sent
    assert errors.StorageConnectionError("reset").sent
    assert not issubclass(InvalidLimitError, errors.StorageError)


def test_results_without_a_failure_are_returned() -> None:
    assert errors.require_all([1, None]) == [1, None]
    late = errors.StorageTimeoutError("late")
    with pytest.raises(errors.BatchError, match="1 of 2 failed") as raised:
        errors.require_all([1, late])
    assert raised.value.results == [1, late]
    assert raised.value.__cause__ is late
