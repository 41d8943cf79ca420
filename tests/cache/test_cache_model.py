"""The store behaves as a dict whose values can rot."""

import shutil
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cache import Artifact, CorruptObjectError, MissingObjectError, Payload, Recipe, Store, StoreError
from cache.environment import Environment, present
from cache.listing import environments, iter_objects
from cache.maintenance import gc, verify
from cache.record import object_files

INDEX = st.integers(0, 5)


HERE = present()
ELSEWHERE = Environment.from_json({**HERE.as_json(), "opencv": "4.10.0.84", "device": "cuda H200"})


def recipe(i: int) -> Recipe:
    """Every third names ``ELSEWHERE`` in its key."""
    plain = Recipe(("proposals", "features")[i % 2], 1, {}, {"image": i})
    return plain.in_environment(ELSEWHERE.digest) if i % 3 == 2 else plain


def payload(i: int) -> Payload:
    return Payload({"boxes": np.full((i, 4), i, np.float32)}, {"image": f"{i}.jpg"}, ("hdf5", "zarr")[i % 2])


class StoreMachine(RuleBasedStateMachine):
    """``whole``: index -> whether the object's bytes are as written; ``made_in``: index -> what its record names, None
    for an object of before records did so; ``registered``: indices some artifact names."""

    @initialize()
    def start(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.store = Store(self.root)
        self.whole: dict[int, bool] = {}
        self.made_in: dict[int, Environment | None] = {}
        self.registered: set[int] = set()

    def teardown(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)

    @rule(i=INDEX, environment=st.sampled_from([None, HERE, ELSEWHERE]))
    def put(self, i: int, environment: Environment | None) -> None:
        meant = ELSEWHERE if recipe(i).environment else environment
        assert self.store.put(recipe(i), payload(i), meant) == recipe(i).key
        if i not in self.whole:
            self.whole[i], self.made_in[i] = True, meant or HERE

    @rule(i=INDEX)
    def put_in_another_environment_than_the_keys(self, i: int) -> None:
        if recipe(i).environment and i not in self.whole:
            with pytest.raises(StoreError, match="named after another environment"):
                self.store.put(recipe(i), payload(i), HERE)

    @rule(i=INDEX)
    def take_in_an_old_object(self, i: int) -> None:
        if i not in self.whole and not recipe(i).environment:
            self.store.take_in(recipe(i).stage, recipe(i).key, object_files(recipe(i), payload(i), None))
            self.whole[i], self.made_in[i] = True, None

    @rule(i=INDEX)
    def get(self, i: int) -> None:
        name, key = recipe(i).stage, recipe(i).key
        if i not in self.whole:
            with pytest.raises(MissingObjectError):
                self.store.get(name, key)
        elif not self.whole[i]:
            with pytest.raises(CorruptObjectError, match=f"{i}.jpg"):
                self.store.get(name, key)
            del self.whole[i]
        else:
            np.testing.assert_array_equal(self.store.get(name, key).arrays["boxes"], payload(i).arrays["boxes"])
            told = self.store.describe(name, key)["environment"]
            assert told == (environment.as_json() if (environment := self.made_in[i]) else None)

    @precondition(lambda self: self.whole)
    @rule(data=st.data())
    def rot(self, data: st.DataObject) -> None:
        i = data.draw(st.sampled_from(sorted(self.whole)))
        folder = self.store.path(recipe(i).stage, recipe(i).key)
        path = data.draw(
            st.sampled_from(sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "object.json"))
        )
        # longer by a byte: unlike a flipped bit, doing it twice never heals it
        path.chmod(0o644)
        path.write_bytes(path.read_bytes() + b"\0")
        self.whole[i] = False

    @precondition(lambda self: any(good and self.made_in[i] for i, good in self.whole.items()))
    @rule(data=st.data())
    def rot_the_environment(self, data: st.DataObject) -> None:
        i = data.draw(st.sampled_from(sorted(i for i, good in self.whole.items() if good and self.made_in[i])))
        path = self.store.path(recipe(i).stage, recipe(i).key) / "object.json"
        record = bytearray(path.read_bytes())
        first = record.index(b'"environment"')
        at = data.draw(st.integers(first, record.index(b"}", first)))
        record[at] ^= 1 << data.draw(st.integers(0, 7))
        path.chmod(0o644)
        path.write_bytes(record)
        self.whole[i] = False

    @rule(indices=st.sets(INDEX, min_size=1))
    def register(self, indices: set[int]) -> None:
        for stage in ("proposals", "features"):
            entries = tuple((i, recipe(i).key) for i in sorted(indices) if recipe(i).stage == stage)
            if entries:
                self.store.register(Artifact(stage, 1, {}, {}, entries, {}))
        self.registered |= indices

    @rule(kept=st.sets(INDEX), workspace_only=st.booleans(), dry_run=st.booleans())
    def collect(self, kept: set[int], workspace_only: bool, dry_run: bool) -> None:
        by_stage: dict[str, list[tuple[int, str]]] = {}
        for i in kept:
            by_stage.setdefault(recipe(i).stage, []).append((i, recipe(i).key))
        roots = [Artifact(stage, 1, {}, {}, tuple(entries), {"root": True}) for stage, entries in by_stage.items()]
        report = gc(self.store, roots, dry_run=dry_run, workspace_only=workspace_only, grace_s=-1)
        live = kept if workspace_only else kept | self.registered
        gone = {i for i in self.whole if i not in live}
        removed = [r for r in report.removals if r.kind in ("proposals", "features")]
        assert len(removed) == len(gone)
        assert report.referenced == len(self.whole) - len(gone)
        if not dry_run:
            self.whole = {i: good for i, good in self.whole.items() if i in live}
            if workspace_only:
                self.registered = set()

    @rule()
    def reopen(self) -> None:
        self.store = Store(self.root)

    @invariant()
    def keys_agree(self) -> None:
        listed = {(info.stage, info.key) for info in iter_objects(self.store)}
        assert listed == {(recipe(i).stage, recipe(i).key) for i in self.whole}
        for i in range(6):
            assert self.store.has(recipe(i).stage, recipe(i).key) == (i in self.whole)

    @invariant()
    def environments_agree(self) -> None:
        for stage in ("proposals", "features"):
            known = [i for i in self.whole if recipe(i).stage == stage and self.whole[i]]
            found = environments(self.store, stage, [recipe(i).key for i in [*known, *known]])
            assert (found.looked, found.objects) == (len(known), len(known))
            assert found.counts == Counter(self.made_in[i] for i in known)

    @invariant()
    def verify_agrees(self) -> None:
        rotten = {(recipe(i).stage, recipe(i).key) for i, good in self.whole.items() if not good}
        assert {(p.stage, p.key) for p in verify(self.store).problems} == rotten


StoreMachine.TestCase.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
TestStoreMachine = StoreMachine.TestCase
