"""Errors the command line answers with one clear line and exit code 2."""

from cache import StoreError
from manifests import DatasetError
from stages.common.errors import StageError


class ParamsError(Exception):
    """params.yaml does not say what it must; the message names every wrong parameter."""


class ExecutionError(Exception):
    """The Dask cluster, or one of its workers, cannot do the work; says why and what to do. All computed is stored."""


class InterruptedRun(Exception):
    """The user or the system asked the run to stop; what was computed is in the store."""


USER_ERRORS = (ParamsError, ExecutionError, StageError, DatasetError, StoreError)
