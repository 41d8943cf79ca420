"""The built-in dataset: handwritten digits on photographs."""
