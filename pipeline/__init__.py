"""How it runs: parameters, detectors and their dvc.yaml, the runner, executors, progress, the command line."""
