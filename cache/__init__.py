"""Place where results live: the content-addressed store, artifact manifests, and the digests that name things."""

from .artifact import Artifact
from .digest import canonical_json, digest_array, digest_file, digest_json
from .errors import (
    CorruptObjectError,
    MissingObjectError,
    ObjectError,
    StoreError,
    StoreFullError,
    StorePermissionError,
    StoreVersionError,
)
from .files import FULL, atomic_write, make_dirs, sync, sync_tree
from .recipe import Payload, Recipe, StoredObject
from .store import Store

__all__ = [
    "FULL",
    "Artifact",
    "CorruptObjectError",
    "MissingObjectError",
    "ObjectError",
    "Payload",
    "Recipe",
    "Store",
    "StoreError",
    "StoreFullError",
    "StorePermissionError",
    "StoreVersionError",
    "StoredObject",
    "atomic_write",
    "canonical_json",
    "digest_array",
    "digest_file",
    "digest_json",
    "make_dirs",
    "sync",
    "sync_tree",
]
