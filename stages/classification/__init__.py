"""The network as a classifier of whole pictures: its error rates, and linear SVMs on its features."""
