"""Stores whose links and records try to lead their upkeep out of them; each case returns what is then run."""

import contextlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from store_targets import object_files, sample_payload, sample_recipe, sealed

Case = Callable[[Path, Path], Callable[[], object]]


@contextlib.contextmanager
def _arguments(*arguments: str) -> Iterator[None]:
    before, sys.argv = sys.argv, ["rcnn", *arguments]
    try:
        yield
    finally:
        sys.argv = before


def _upkeep(inside: Path) -> Callable[[], object]:
    """Every command that goes through the store, as the command line runs it, and the reading of an object."""
    from cache import Store
    from pipeline import cli

    (inside / "params.yaml").write_text("{}\n", encoding="utf-8")
    key = object_files("zarr")[0]
    commands = [("ls",), ("ls", "proposals"), ("du",), ("show", key[:8]), ("verify",), ("verify", "--quarantine")]
    commands += [("gc", "--delete", "--grace", "0"), ("gc", "--delete", "--workspace", "--grace", "0")]

    def run() -> str:
        from cache.errors import USER_ERRORS

        said = io.StringIO()
        store = Store(inside / "artifacts")
        for command in commands:
            if "--quarantine" in command:
                for read in (lambda: store.missing("proposals", [key]), lambda: store.get("proposals", key)):
                    with contextlib.suppress(*USER_ERRORS):
                        read()
            with (
                _arguments("-C", str(inside), "cache", *command),
                contextlib.suppress(SystemExit),
                contextlib.redirect_stdout(said),
                contextlib.redirect_stderr(said),
            ):
                cli.main()
        with contextlib.suppress(*USER_ERRORS):
            store.put(sample_recipe(), sample_payload("zarr"))
        assert "Traceback" not in said.getvalue(), said.getvalue()
        return said.getvalue()

    return run


def _linked_store(at: str, to: str) -> Case:
    """A store that holds one old object and in which ``at`` is a link to ``to``; KEY and SHARD are the object's."""

    def case(inside: Path, outside: Path) -> Callable[[], object]:
        from cache import Store

        key, shard = object_files("zarr")[0], object_files("zarr")[0][:2]
        root = inside / "artifacts"
        Store(root).put(sample_recipe(), sample_payload("zarr"))
        for folder in ("refs", "tmp", "quarantine"):
            (root / folder).mkdir(exist_ok=True)
        for path in sorted(root.rglob("*")):
            os.utime(path, (1, 1))
        link = root / at.replace("SHARD", shard).replace("KEY", key)
        if link.is_dir():
            shutil.rmtree(link)
        link.unlink(missing_ok=True)
        link.symlink_to(outside / to.replace("SHARD", shard).replace("KEY", key))
        os.utime(link, (1, 1), follow_symlinks=False)
        return _upkeep(inside)

    return case


def _sealed_names(inside: Path, outside: Path) -> Callable[[], object]:
    """An object whose record, with a right checksum, names files outside."""
    from cache import Store

    key, files = object_files("zarr")
    folder = Store(inside / "artifacts").path("proposals", key)
    Store(inside / "artifacts").put(sample_recipe(), sample_payload("zarr"))
    body = json.loads(files["object.json"])
    spec = body["files"]["data.zarr/zarr.json"]
    named = {"../../../../../outside/secret.txt": spec, str(outside / "secret.txt"): spec}
    (folder / "object.json").chmod(0o644)
    (folder / "object.json").write_bytes(sealed(body | {"files": named}))
    return _upkeep(inside)


_OBJECT = "store/objects/proposals/SHARD/KEY"
STORE_CASES: dict[str, Case] = {
    "store_sealed_names": _sealed_names,
    "store_json": _linked_store("store.json", "store/store.json"),
    "store_objects": _linked_store("objects", "store/objects"),
    "store_stage": _linked_store("objects/proposals", "store/objects/proposals"),
    "store_other_stage": _linked_store("objects/features", "store/objects/proposals"),
    "store_shard": _linked_store("objects/proposals/SHARD", "store/objects/proposals/SHARD"),
    "store_object": _linked_store("objects/proposals/SHARD/KEY", _OBJECT),
    "store_record": _linked_store("objects/proposals/SHARD/KEY/object.json", f"{_OBJECT}/object.json"),
    "store_payload": _linked_store("objects/proposals/SHARD/KEY/data.zarr", f"{_OBJECT}/data.zarr"),
    "store_extra_file": _linked_store("objects/proposals/SHARD/KEY/extra", "secret.txt"),
    "store_tmp_entry": _linked_store("tmp/old", "store"),
    "store_tmp": _linked_store("tmp", "store"),
    "store_quarantine_entry": _linked_store("quarantine/old", "store"),
    "store_quarantine": _linked_store("quarantine", "store"),
    "store_reference": _linked_store(f"refs/proposals-{'a' * 64}.json", "secret.json"),
    "store_refs": _linked_store("refs", "store"),
}
