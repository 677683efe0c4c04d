"""Users by name."""

from sojourn.linux.users import user_id


def test_a_user_is_found_by_name_and_a_stranger_is_not() -> None:
    assert user_id("root") == 0
    assert user_id("nobody-of-this-name") is None
    assert user_id("a\0b") is None
