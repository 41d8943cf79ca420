"""HDF5 and npz files that these formats allow and no reader may trust."""

import io
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


class Trap:
    """Unpickling it fails loudly: no reader may come as far."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return exec, ("raise SystemExit('a pickle was run')",)


def hostile_hdf5(shapes: Mapping[str, tuple[int, ...]]) -> list[bytes]:
    """Files with arrays of these names that HDF5 can hold and no reader of ours may trust."""
    import h5py

    def file(fill: Callable[[Any, str, tuple[int, ...]], object]) -> bytes:
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as made:
            for name, shape in shapes.items():
                fill(made, name, shape)
        return buffer.getvalue()

    def virtual(made: Any, name: str, shape: tuple[int, ...]) -> None:
        layout = h5py.VirtualLayout(shape, "f4")
        layout[...] = h5py.VirtualSource("/etc/hostname", "x", shape)
        made.create_virtual_dataset(name, layout)

    def linked(link: Any) -> Callable[[Any, str, tuple[int, ...]], None]:
        return lambda made, name, shape: made.__setitem__(name, link)

    def huge(made: Any, name: str, shape: tuple[int, ...]) -> None:
        made.create_dataset(name, (10**9, *shape[1:]), "f4", chunks=(1, *shape[1:]), compression="gzip")

    external = [("/etc/hostname", 0, h5py.h5f.UNLIMITED)]
    return [
        file(virtual),
        file(linked(h5py.ExternalLink("/etc/hostname", "/x"))),
        file(linked(h5py.SoftLink("/"))),
        file(linked(h5py.SoftLink("/absent"))),
        file(huge),
        file(lambda made, name, shape: made.create_dataset(name, (10**7, *shape[1:]), "f4")),
        file(lambda made, name, shape: made.create_dataset(name, shape, "f4", external=external)),
        file(lambda made, name, shape: made.create_dataset(name, shape, h5py.vlen_dtype(np.int32))),
        file(lambda made, name, shape: made.create_dataset(name, shape, h5py.string_dtype())),
        file(lambda made, name, shape: made.create_dataset(name, shape, h5py.ref_dtype)),
        file(lambda made, name, shape: made.create_dataset(name, shape, [("a", "f4"), ("b", "S3")])),
        file(lambda made, name, shape: made.create_dataset(name, data=h5py.Empty("f4"))),
        file(lambda made, name, shape: made.create_group(name)),
        file(lambda made, name, shape: made.__setitem__(name, np.dtype("f4"))),
    ]


def npz(members: Mapping[str, bytes]) -> bytes:
    """A zip file of these members, compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def npy(array: Any) -> bytes:
    """One array as a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npy_claiming(shape: object, dtype: object = "<f4", values: bytes = b"") -> bytes:
    """A .npy file whose header claims any shape and dtype."""
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + values


def hostile_npz(names: Mapping[str, tuple[int, ...]]) -> list[bytes]:
    """npz files with members of these names: pickles, false shapes, bombs, names that lead elsewhere."""
    objects = npy(np.array([None, 1], object)).split(b"\n")[0] + b"\n" + pickle.dumps(Trap())
    hostile = [npy_claiming((10**9, 4)), npy_claiming((10**18,) * 4), npy_claiming((-1, 4)), npy_claiming((2.5, 4))]
    hostile += [objects, npy_claiming((2, 4), "|O", pickle.dumps(Trap())), npy_claiming((300_000_000, 4), "<f8")]
    hostile += [npy_claiming((400_000_000,), "|u1", bytes(1 << 22)), npy_claiming("(" * 3000), b"", b"\x93NUMPY\x09\0"]
    hostile += [npy_claiming((1, 4), [("a", "<f4")] * 3), npy_claiming((1, 4), "<U400000000")]
    files = [npz(dict.fromkeys((f"{name}.npy" for name in names), data)) for data in hostile]
    strange = ("../../x.npy", "/etc/hostname", "boxes/../../a.npy", "boxes/.npy", "boxes/a.npy/", "a\\b.npy")
    sound = npy(np.zeros((1, 4), np.float32))
    return [*files, *(npz({name: sound}) for name in strange)]
