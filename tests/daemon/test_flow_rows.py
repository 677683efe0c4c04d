"""What `flows --json` and `apps --json` say of rows."""

from msgspec.structs import replace

from sojourn.daemon.flow_rows import app_rows, flow_id, flow_row
from sojourn.model import TCP, AssociationId, Endpoint, Flow, Origin, TunnelId
from sojourn.upmt.commands import RowState

FLOW = Flow(TCP, Endpoint("10.201.0.2", 40000), Endpoint("2001:db8::1", 443))
ZOOM = Origin(9, "/opt/zoom/zoom", "", "zoom", 4242, 1000, "/user.slice/app-zoom-1.scope", "", True)
ROW = RowState(AssociationId(1), FLOW, TunnelId(7), 3, 1, 2, 1000, 2000, 12.34, ZOOM, "calls")


def test_a_row_has_the_documented_keys_and_who_made_it() -> None:
    row = flow_row(ROW, "wifi")
    assert row["id"] == flow_id(FLOW)
    assert (row["protocol"], row["local"], row["remote"]) == ("tcp", "10.201.0.2:40000", "[2001:db8::1]:443")
    assert (row["network"], row["bytes_in"], row["bytes_out"], row["age_s"]) == ("wifi", 1000, 2000, 12.3)
    assert (row["application"], row["policy"], row["state"]) == ("zoom", "calls", "carried")
    assert (row["pid"], row["uid"], row["program"], row["unit"]) == (4242, 1000, "/opt/zoom/zoom", "app-zoom-1.scope")
    assert row["exact"] is True


def test_a_flow_whose_program_nobody_knows_says_so() -> None:
    row = flow_row(replace(ROW, origin=None, label=""), "wifi")
    assert [row[key] for key in ("application", "policy", "pid", "uid", "program", "unit", "exact")] == [None] * 7


def test_what_is_done_with_a_flow_is_one_word() -> None:
    states = [
        flow_row(row, None)["state"]
        for row in (ROW, replace(ROW, tunnel=None), replace(ROW, copies=(TunnelId(8),)), replace(ROW, blocked=True))
    ]
    assert states == ["carried", "waiting", "copied", "blocked"]


def test_applications_sum_up_their_flows_the_busiest_first() -> None:
    other = replace(ROW, origin=None, label="", bytes_in=9, bytes_out=9)
    rows = [flow_row(other, "wifi"), flow_row(ROW, "wifi"), flow_row(ROW, "phone")]
    zoom, unknown = app_rows(rows)
    assert zoom == {
        "application": "zoom", "flows": 2, "networks": ["wifi", "phone"], "policies": ["calls"],
        "bytes_in": 2000, "bytes_out": 4000,
    }  # fmt: skip
    assert (unknown["application"], unknown["flows"], unknown["policies"]) == (None, 1, [])
