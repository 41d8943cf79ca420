"""Errors the command line answers with one clear line and exit code 2."""

from cache import StoreError
from manifests import DatasetError
from stages.common.errors import StageError


class ParamsError(Exception):
    """params.yaml does not say what it must; the message names every wrong parameter."""


class InterruptedRun(Exception):
    """The user or the system asked the run to stop; what was computed is in the store."""


USER_ERRORS = (ParamsError, StageError, DatasetError, StoreError)
