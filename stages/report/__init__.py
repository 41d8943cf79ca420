"""One self-contained HTML page that shows what a run of the pipeline made of a dataset."""
