"""One file per domain: how its objects vary without changing."""
