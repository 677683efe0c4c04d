"""The control socket: messages, server, client."""
