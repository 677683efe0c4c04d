"""The mobile host and the anchor as machines: association, tunnels, handover (seed 002)."""
