"""The part of SIP that UPMT stands on: REGISTER, MESSAGE, OPTIONS, digest, non-INVITE transactions (RFC 3261)."""
