"""What the tests share; imported as `support` (pyproject puts tests/ on the path)."""
