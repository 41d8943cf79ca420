"""What tests of several packages share; makes the modules of tests/helpers importable."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# For this process, before it loads torch, and all that it starts: a second thread of a tiny network is only waited for.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"
os.environ["DVC_NO_ANALYTICS"] = "1"  # which would start a process of its own after each command

# How long an example takes says something of the machine, and of what else it does, and nothing of the program.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

sys.path.insert(0, str(Path(__file__).parent / "helpers"))

from made_once import Once  # noqa: E402 - from the folder just named
from warm_rcnn import served  # noqa: E402 - from the folder just named


@pytest.fixture(scope="session")
def warm_rcnn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A program that is ``rcnn`` without the seconds that importing torch takes."""
    with served(tmp_path_factory.mktemp("warm") / "bin" / "rcnn") as script:
        yield script


@pytest.fixture(scope="session")
def s3_bucket() -> Iterator[str]:
    """The URL of an empty bucket on an S3 server of the tests' own."""
    import logging

    import botocore.session
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    names = {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**names, "AWS_DEFAULT_REGION": "us-east-1"}.items():
            patch.setenv(name, value)
        botocore.session.Session().create_client("s3").create_bucket(Bucket="features")
        yield "s3://features"
    server.stop()


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Makes a folder once for all processes of this run of the tests."""
    base = tmp_path_factory.getbasetemp()
    return Once(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)  # every process has its own below it
