"""What is computed: rooms by subject. docs/architecture.md lists them by floor.

A room holds pure algorithms; where it is a stage, a thin ``stage.py`` (or ``NAME_stage.py``) runs them.
"""
