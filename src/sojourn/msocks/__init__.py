"""MSOCKS: SOCKS5, and on top of it sessions that a mobile client continues over another connection (seed 003)."""
