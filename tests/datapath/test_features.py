import pytest

from sojourn.datapath.features import Features, from_environment
from sojourn.errors import ConfigError


def test_everything_is_used_unless_the_user_says_otherwise() -> None:
    assert from_environment({}) == from_environment({"SOJOURN_WITHOUT": ""}) == Features()


def test_named_features_are_left_out() -> None:
    assert from_environment({"SOJOURN_WITHOUT": "uso, GRO"}) == Features(uso=False, gro=False)


def test_an_unknown_name_is_a_mistake_with_a_remedy() -> None:
    with pytest.raises(ConfigError, match=r"SOJOURN_WITHOUT.*xdp.*tso, uso, gso, gro, tcx"):
        from_environment({"SOJOURN_WITHOUT": "xdp"})
