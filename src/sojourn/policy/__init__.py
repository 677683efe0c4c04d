"""Which application, over which network: the policy language, and what a flow's owner is. Pure functions only."""
