from pathlib import Path

import pytest

from sojourn.errors import ConfigError
from sojourn.linux.processor import VARIABLE, aeads
from sojourn.packet.seal import Aead

AES, CHACHA = Aead.AES_256_GCM, Aead.CHACHA20_POLY1305


@pytest.mark.parametrize(
    ("cpuinfo", "best"),
    [
        ("processor\t: 0\nflags\t\t: fpu aes avx2 vaes\n", AES),
        ("processor\t: 0\nflags\t\t: fpu avx2\n\nprocessor\t: 1\nflags\t\t: fpu avx2\n", CHACHA),
        ("Features\t: fp asimd aes pmull\n", AES),
        ("Features\t: half thumb fastmult vfp\nmodel name\t: aes\n", CHACHA),
    ],
)
def test_a_processor_without_aes_asks_for_chacha20_first(cpuinfo: str, best: Aead, tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(cpuinfo)
    assert aeads({}, path)[0] is best
    assert set(aeads({}, path)) == {AES, CHACHA}


def test_what_is_set_is_asked_for_alone(tmp_path: Path) -> None:
    assert aeads({VARIABLE: "ChaCha20-Poly1305"}) == (CHACHA,)
    assert aeads({}, tmp_path / "none") == (AES, CHACHA)
    with pytest.raises(ConfigError, match=r"rot13 is no cipher.*aes-256-gcm or chacha20-poly1305"):
        aeads({VARIABLE: "rot13"})
