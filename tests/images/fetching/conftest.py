"""A server that speaks S3, for the tests of fetching."""

from collections.abc import Iterator

import pytest

from tests.support.object_store import ObjectStore, object_store


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with object_store() as started:
        yield started
