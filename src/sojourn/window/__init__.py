"""The local web page: its server, a process of its own and a client of the control socket (docs/window.md)."""
