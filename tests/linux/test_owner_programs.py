"""The programs in this kernel: loaded, attached, handed on; and what is said where that does not work."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from sojourn.errors import NotSupported
from sojourn.linux import bpf, owner_programs
from sojourn.linux.bpf_map import NO_EXIST, BpfMap
from sojourn.linux.owner_programs import OwnerPrograms, why_not
from sojourn.linux.owners import SIZES, number, pack_process, process_of
from sojourn.packet.ip import key_of
from tests.harness.watched import REMOTE, Watched, watched

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: BPF programs")
needs_btf = pytest.mark.skipif(
    not Path("/sys/kernel/btf/vmlinux").exists(), reason="needs a kernel with BTF (CONFIG_DEBUG_INFO_BTF)"
)


@pytest.fixture(scope="module")
def ground() -> Iterator[Watched]:
    with watched() as place:
        yield place


def test_an_object_that_was_not_built_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotSupported, match=r"absent\.bpf\.o, which was not built"):
        OwnerPrograms.load(-1, tmp_path / "absent.bpf.o")


@needs_root
def test_what_libbpf_says_about_a_broken_object_is_in_the_error(tmp_path: Path) -> None:
    broken = tmp_path / "broken.bpf.o"
    broken.write_bytes(b"\x7fELF" + bytes(200))
    with pytest.raises(OSError, match=r"broken\.bpf\.o: .*elf"):
        bpf.BpfObject(broken)


def test_a_refusal_is_put_into_words() -> None:
    assert "CAP_BPF" in why_not(PermissionError(1, "owner.bpf.o: Operation not permitted"))
    assert why_not(NotSupported("BPF", "libbpf.so.1")) == "BPF is not available here: it needs libbpf.so.1"


@needs_root
@needs_btf
def test_without_the_library_the_package_is_named(ground: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpf, "LIBRARY", "libbpf-that-is-not-there.so")
    monkeypatch.setattr(bpf._Library, "_loaded", None)
    with pytest.raises(NotSupported, match="apt install libbpf1"):
        OwnerPrograms.load(ground.root)


@needs_root
@needs_btf
def test_all_programs_are_attached_and_a_successor_takes_them_over(ground: Watched) -> None:
    programs = ground.programs
    assert set(programs.links) == {*owner_programs.ON_PROCESSES, *owner_programs.ON_CGROUP}
    successor = OwnerPrograms.adopt(programs.descriptors, programs.digest)
    assert successor is not None
    assert successor.descriptors.keys() == programs.descriptors.keys()
    assert not set(successor.descriptors.values()) & set(programs.descriptors.values())
    successor.close()
    assert OwnerPrograms.adopt(programs.descriptors, "another") is None
    incomplete = dict(programs.descriptors)
    incomplete.popitem()
    assert OwnerPrograms.adopt(incomplete, programs.digest) is None


@needs_root
@needs_btf
def test_owner_numbers_begin_above_all_that_an_earlier_load_has_given(ground: Watched) -> None:
    counter = ground.programs.map("counter").look_up(b"")
    later = OwnerPrograms.load(ground.root)
    began = later.map("counter").look_up(b"")
    later.close()
    assert counter is not None
    assert began is not None
    assert int.from_bytes(began, "little") > int.from_bytes(counter, "little")


@needs_root
@needs_btf
def test_programs_end_with_the_last_descriptor_of_their_links(ground: Watched) -> None:
    second = OwnerPrograms.load(ground.root)
    second.tell(ground.settings())
    flows = BpfMap(os.dup(second.maps["flows"]), *SIZES["flows"])
    second.close()
    ground.seen.clear()
    ground.run("bash", "-c", f"echo > /dev/udp/{REMOTE}/5001")
    assert ground.origin_to(5001) is not None
    flow = next(flow for flow in ground.seen if flow.remote.port == 5001)
    assert flows.look_up(key_of(flow)) is None
    os.close(flows.fd)


@needs_root
@needs_btf
def test_a_map_is_read_and_written_by_its_descriptor_alone(ground: Watched) -> None:
    names = ground.programs.map("names")
    assert names.look_up(number(7)) is None
    names.update(number(7), b"call")
    assert names.look_up(number(7)) == b"call".ljust(64, b"\0")
    with pytest.raises(FileExistsError):
        names.update(number(7), b"other", NO_EXIST)
    names.update(number(8), b"film")
    assert sorted(names.keys()) == [number(7), number(8)]
    for each in list(names.keys()):
        names.delete(each)
    names.delete(number(9))
    assert list(names.keys()) == []
    with pytest.raises(ValueError, match="9 bytes for 8"):
        names.look_up(bytes(9))


@needs_root
@needs_btf
def test_the_records_are_as_long_as_the_kernels(ground: Watched) -> None:
    for name in SIZES:
        if name not in ("cgroups", "owners", "flows", "verdicts"):  # an LRU's are checked by use
            ground.programs.map(name).look_up(b"")
    own = ground.programs.map("processes").look_up(os.getpid().to_bytes(4, "little"))
    if own is not None:  # in a container the number is another
        owner, start, pin = process_of(own)
        assert pack_process(owner, start, pin) == own


@needs_root
@needs_btf
def test_settings_that_name_no_device_leave_every_flow_alone(ground: Watched) -> None:
    own = ground.settings()
    ground.programs.tell(replace(own, device=0))
    try:
        ground.run("bash", "-c", f"echo > /dev/udp/{REMOTE}/5002")
        assert ground.origin_to(5002) is None
    finally:
        ground.programs.tell(own)


@needs_root
@needs_btf
def test_while_maps_are_full_a_program_is_unknown_and_never_another(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LEAST_PROCESSES", "MOST_PROCESSES"):
        monkeypatch.setattr(owner_programs, name, 128)
    with watched() as place:
        filled = []
        for name, size in (("processes", 4), ("executions", 8)):
            held, value = place.programs.map(name), bytes(SIZES[name][1])
            with pytest.raises(OSError) as full:
                for at in range(129):
                    held.update((0xF0000000 + at).to_bytes(size, "little"), value, NO_EXIST)
            assert full.value.errno == errno.E2BIG
            filled.append((held, size))
        place.run("bash", "-c", f"echo > /dev/udp/{REMOTE}/5003")
        unknown = place.origin_to(5003)
        # Of the machine's other processes one may have ended, which leaves a place.
        assert unknown is None or not unknown.executable or unknown.executable.endswith("/bash")
        for held, size in filled:
            for at in range(129):
                held.delete((0xF0000000 + at).to_bytes(size, "little"))
        place.run("bash", "-c", f"echo > /dev/udp/{REMOTE}/5004")
        known = place.origin_to(5004)
        assert known is not None
        assert known.executable.endswith("/bash")
