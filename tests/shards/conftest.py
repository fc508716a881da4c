"""Folders on an object store."""

from __future__ import annotations

import pytest

from tests.object_store import ObjectStore


@pytest.fixture(scope="session")
def s3_folder(object_store: ObjectStore) -> str:
    """A URI with a gap for the path: `s3_folder.format("some/folder")`."""
    return object_store.uri("{}")
