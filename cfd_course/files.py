"""Writing a file so that there is never half of one."""

import os
from pathlib import Path


class replacing:
    """A path to write to. On success the file takes its final name in one move, whenever the
    process dies, and on failure what was there before stays:

    with replacing(path) as partial:
        partial.write_text("all of it")
    """

    def __init__(self, path: Path):
        self.path = path
        self.partial = path.with_name(f"{path.name}.{os.getpid()}.partial")

    def __enter__(self) -> Path:
        return self.partial

    def __exit__(self, kind, error, trace):
        if kind is None:
            with open(self.partial, "rb") as file:
                os.fsync(file.fileno())
            os.replace(self.partial, self.path)
        else:
            self.partial.unlink(missing_ok=True)
