import pytest

from sojourn.errors import ConfigError
from sojourn.linux.threads import MOST, VARIABLE, threads_each_way


@pytest.mark.parametrize(("processors", "threads"), [(1, 1), (2, 1), (3, 1), (4, 2), (8, 4), (64, MOST)])
def test_a_direction_has_a_thread_for_every_two_processors(processors: int, threads: int) -> None:
    assert threads_each_way({}, processors) == threads


def test_whoever_sets_a_number_gets_it() -> None:
    assert threads_each_way({VARIABLE: " 3 "}, 1) == 3
    assert threads_each_way({VARIABLE: ""}, 2) == 1


@pytest.mark.parametrize("wanted", ["0", "5", "two", "-1", "1.5", "\u0662", "99999999999999999999"])
def test_anything_else_is_refused_with_the_remedy(wanted: str) -> None:
    with pytest.raises(ConfigError, match=f"{VARIABLE}.*from 1 to {MOST}"):
        threads_each_way({VARIABLE: wanted}, 8)
