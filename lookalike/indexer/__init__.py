"""Windows, exact neighbors, the index folder, its audit, and search."""
