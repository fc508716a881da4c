"""Can every node read and write the run's output, and is it the same place for all?"""

from __future__ import annotations

import uuid
from typing import Any

from crlft_ray.diagnosis.finding import DRIVER, Finding, judged
from crlft_ray.diagnosis.nodes import Cluster, Node
from crlft_ray.errors import UserError
from crlft_ray.storage import Place

CHECK = "output"


def leave_mark(uri: str, path: str, mark: str, name: str) -> dict[str, Any]:
    """Writes a file `mark`.`name` into the folder, reads it back, and says whether the driver's is seen beside it."""
    from crlft_ray.storage import Place

    folder = Place.of(uri).at(path)
    mine = folder / f"{mark}.{name}"
    try:
        mine.write_text(name)
        if mine.read_text() != name:
            raise OSError("what is read is not what was written")
    except (OSError, ValueError) as error:
        return {"error": " ".join(str(error).split())[:300], "seen": False}
    return {"error": None, "seen": (folder / f"{mark}.{DRIVER}").exists()}


def check_output(cluster: Cluster) -> list[Finding]:
    """A small file from the driver and from every node, in the output or, before the first run, where it will be made;
    the files are removed again."""
    if cluster.config is None:
        return []
    uri = cluster.config.output
    mark = f".crlft-doctor-{uuid.uuid4().hex}"
    try:
        output = Place.of(uri)
        folder = _existing(output)
    except UserError as error:
        return [Finding(CHECK, DRIVER, False, f"output: {error}")]
    except OSError as error:
        return [Finding(CHECK, DRIVER, False, _cannot(output, str(error)))]
    try:
        here = leave_mark(uri, folder.path, mark, DRIVER)
        if here["error"]:
            return [Finding(CHECK, DRIVER, False, _cannot(output, here["error"]))]
        asked = {node: (uri, folder.path, mark, node.id) for node in cluster.nodes}
        answers = cluster.ask_each(leave_mark, asked, seconds=90)
        later = "" if folder == output else f", where {output} will be made"
        seen = {child.name for child in folder.children()}

        def judge(node: Node, there: dict[str, Any]) -> tuple[bool, str]:
            if there["error"]:
                return False, _cannot(output, there["error"])
            if not there["seen"] or f"{mark}.{node.id}" not in seen:
                return False, (
                    f"{folder} is another folder than the driver's: mount the same storage there, or give an output "
                    "such as s3://bucket/run"
                )
            return True, f"can read and write {folder}{later}"

        return judged(CHECK, answers, judge)
    finally:
        _remove(cluster, uri, folder, mark)


def remove_marks(uri: str, path: str, mark: str) -> None:
    """Removes the files of the check from a folder."""
    from crlft_ray.storage import Place

    folder = Place.of(uri).at(path)
    for child in folder.children() if folder.is_folder() else []:
        if child.name.startswith(mark):
            child.remove()


def _remove(cluster: Cluster, uri: str, folder: Place, mark: str) -> None:
    # On the nodes as well: their folder may be another one. Where it cannot be read, nothing was written.
    if folder.is_folder():
        remove_marks(uri, folder.path, mark)
    cluster.ask(remove_marks, uri, folder.path, mark, seconds=60)


def _existing(output: Place) -> Place:
    """The output, or the nearest folder above it that is there."""
    place = output
    while not place.exists() and "/" in place.path.strip("/"):
        place = place.parent
    return place


def _cannot(output: Place, reason: str) -> str:
    return (
        f"{output} cannot be read and written ({reason}): give an output that every node can write, or give these "
        "nodes the rights or credentials for it"
    )
