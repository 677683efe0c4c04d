"""Policies that the original system named, as values of the keys that a policy has here.

Reference: `cfg/client/client.cfg` and the policy classes of the authors' UPMT (docs/guide/policies.md says what each
means). BestPerformance, OnlyFree and WiredBeforeWireless were empty stubs there: their meaning is ours.
"""

from typing import Any, Final

from msgspec import Struct


class Preset(Struct, frozen=True):
    """What a preset gives; a key that the policy itself has goes before it."""

    keys: dict[str, Any]
    needs: tuple[str, ...] = ()
    """Keys that the owner must give."""
    meaning: str = ""


PRESETS: Final[dict[str, Preset]] = {
    "Any": Preset({"networks": ["*"], "order": "sticky", "otherwise": "any"}, (), "any network that works, and stays"),
    "PriorityList": Preset(
        {"order": "listed", "otherwise": "block"}, ("networks",),
        "the first listed network that works; none: blocked, unless the list ends with any",
    ),
    "Static": Preset({"otherwise": "hold"}, ("networks",), "this network only; flows wait while it does not work"),
    "Block": Preset({"block": True}, (), "never"),
    "PerformancePriorityList": Preset(
        {"order": "listed", "otherwise": "any"}, ("networks", "require.rtt", "require.loss"),
        "the first listed network under both thresholds, else the first that works",
    ),
    "VoipPerformance": Preset(
        {"networks": ["*"], "order": "voip", "otherwise": "any"}, (), "the smallest score of delay and loss for speech"
    ),
    "OnlyFree": Preset(
        {"require": {"metered": False, "cost": ["free"]}, "otherwise": "hold"}, (),
        "networks that cost nothing; flows wait while there is none",
    ),
    "WiredBeforeWireless": Preset(
        {"networks": ["ethernet", "wifi", "cellular", "*"], "order": "listed", "otherwise": "any"}, (),
        "a cable where there is one",
    ),
    "BestPerformance": Preset(
        {"networks": ["*"], "order": "performance", "otherwise": "any"}, (), "the smallest round-trip time and loss now"
    ),
}  # fmt: skip


def expand(table: dict[str, Any], preset: Preset) -> dict[str, Any]:
    """Return a policy's table with what the preset gives where the owner has said nothing."""
    own_require = table.get("require")
    expanded = {**preset.keys, **table}
    if isinstance(own_require, dict) and "require" in preset.keys:
        expanded["require"] = {**preset.keys["require"], **own_require}
    return expanded
