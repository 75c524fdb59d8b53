"""ONNX Runtime sessions: their settings in one place, so that all runs of a graph are alike."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from registry.errors import BundleError

if TYPE_CHECKING:
    import onnxruntime

# The names that every graph of a bundle has.
PIXELS, EMBEDDING = "pixels", "embedding"


def available_cores() -> int:
    """Return how many cores this process may use; a container may give fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def open_session(
    graph: bytes, *, threads: int, providers: Sequence[str] = ("CPUExecutionProvider",)
) -> onnxruntime.InferenceSession:
    """Return a session on a graph that `onnx_safety.check_graph` has admitted.

    Parameters
    ----------
    graph : a serialised ONNX model
    threads : within an operator; operators run one after the other
    providers : ONNX Runtime's execution providers, by preference

    Raises
    ------
    BundleError
        If ONNX Runtime cannot run the graph.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    # Fatal only: what is an error is raised, and need not be printed besides.
    options.log_severity_level = 4
    # A waiting thread must not burn a core that decoding or training could use.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(
            graph, sess_options=options, providers=list(providers)
        )
    except Exception as error:  # the runtime raises a class per status code
        raise BundleError(f"ONNX Runtime cannot run the graph: {error}") from error


def graph_outputs(
    session: onnxruntime.InferenceSession, pixels: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """Return every output of the graph by its name.

    Parameters
    ----------
    session : from `open_session`
    pixels : float32, shape [n, 3, h, w]

    Raises
    ------
    BundleError
        If the graph fails on these pixels.
    """
    names = [output.name for output in session.get_outputs()]
    try:
        return dict(zip(names, session.run(names, {PIXELS: pixels}), strict=True))
    except Exception as error:  # the runtime raises a class per status code
        raise BundleError(f"ONNX Runtime cannot run the graph: {error}") from error
