"""Tables of experiments declared in YAML files: each cell a ``dvc exp run``, what was measured kept cell by cell."""
