"""Programs that `torch.export` wrote (.pt2) by PyTorch: https://docs.pytorch.org/docs/stable/export.html."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from ...errors import DataError, UnsafeFileError
from .contract import KEY, Engine, Metadata


class TorchEngine(Engine):
    """A .pt2 file. PyTorch opens it by means that run code which somebody put there: only for files of your own."""

    name = "torch"

    def __init__(self, path: Path, threads: int | None = None, trusted: bool = False) -> None:
        if not trusted:
            raise UnsafeFileError(
                f"{path} is a program for PyTorch, which can run any code when it is opened: it stays closed. Export "
                "the run to .onnx or .xml, which cannot; one of your own opens with load_exported(..., trusted=True)."
            )
        import torch

        if not zipfile.is_zipfile(path):
            raise DataError(f"{path} is damaged or no program of PyTorch; export the run again.")
        if threads is not None:
            torch.set_num_threads(threads)
        extra = {f"{KEY}.json": ""}
        try:
            program = torch.export.load(path, extra_files=extra)
        except Exception as error:  # of a damaged file nearly any
            raise DataError(f"{path} is damaged ({type(error).__name__}); export the run again.") from error
        super().__init__(path, Metadata.from_json(extra[f"{KEY}.json"], path))
        self.program = program.module(check_guards=False)  # see `export.py`: it takes any size
        self.torch = torch

    @property
    def version(self) -> str:
        return str(self.torch.__version__)

    def run(self, pictures: np.ndarray, wanted: tuple[str, ...]) -> list[np.ndarray]:
        with self.torch.inference_mode():
            outputs = self.program(self.torch.from_numpy(pictures))
        return [outputs[self.metadata.outputs.index(name)].numpy() for name in wanted]
