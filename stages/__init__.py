"""What is computed: one package per stage, and ``common`` for what several stages need.

A stage package holds pure algorithms and one thin entry, ``stage.py``, with a module-level ``STAGE``.
Stages import ``manifests``, ``cache`` and ``stages.common``; never each other, never ``pipeline``.
"""
