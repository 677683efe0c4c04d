"""From TOML to a typed value, or to an error that names file, key and remedy."""

import pytest
from msgspec import Struct

from sojourn.control.decode import decode
from sojourn.errors import ConfigError


class Inner(Struct, forbid_unknown_fields=True):
    depth: int


class Sample(Struct, forbid_unknown_fields=True):
    address: str
    port: int = 1
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()


def failure(text: str | bytes) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        decode(text, Sample, "x.toml")
    return caught.value


def test_a_whole_file_becomes_a_value() -> None:
    assert decode('address = "a"\n[inner]\ndepth = 3\n', Sample, "x.toml") == Sample("a", 1, Inner(3))


def test_a_misspelt_key_gets_the_right_spelling_as_remedy() -> None:
    error = failure('adress = "a"\naddress = "a"\n')
    assert error.where == "x.toml: adress"
    assert error.fix == "Did you mean 'address'?"


def test_an_unknown_key_that_resembles_nothing_gets_the_known_ones() -> None:
    assert failure('address = "a"\nzzz = 1\n').fix == "Known keys: address, port, inner, many."


def test_a_missing_key_is_named() -> None:
    error = failure("port = 3\n")
    assert (error.where, error.why) == ("x.toml: address", "this key is missing")


def test_a_wrong_type_names_the_key_in_its_table() -> None:
    error = failure('address = "a"\n[[many]]\ndepth = 1\n[[many]]\ndepth = "x"\n')
    assert error.where == "x.toml: many[1].depth"
    assert error.why == "expected `int`, got `str`"


def test_a_missing_key_in_a_table_is_named_with_the_table() -> None:
    assert failure('address = "a"\n[inner]\n').where == "x.toml: inner.depth"


def test_broken_toml_names_the_line() -> None:
    assert "line 2" in failure('address = "a"\n= 3\n').why


@pytest.mark.parametrize("text", [b"\xff\xfe", "a = " + "[" * 5000, "x" * (1 << 20) + "y", "a = 0x" + "f" * 9000])
def test_whatever_is_no_toml_is_a_config_error(text: str | bytes) -> None:
    assert failure(text).where.startswith("x.toml")
