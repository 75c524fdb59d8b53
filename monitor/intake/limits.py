"""How much of anything a received file may make us hold, decided before it is held."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Caps on one file. Their product keeps one file under a gigabyte of memory and 5 s."""

    #: Bytes of the file. The largest single-frame images (slide tiles,
    #: mammograms) have some 60 MB.
    file_bytes: int = 256 << 20
    #: Bytes of a deflated data set once inflated.
    inflated_bytes: int = 256 << 20
    #: Bytes of any one element that is kept, the pixel data aside: the largest
    #: legitimate one is a look-up table of 65,536 16-bit entries.
    element_bytes: int = 1 << 20
    #: Elements in all, nested ones included: what bounds the time of a scan.
    elements: int = 300_000
    #: Nested sequences. Structured reports, the deepest objects, stay below 20.
    depth: int = 64
    #: rows x columns x samples; 8192 x 8192 gray is 256 MiB as float32.
    samples: int = 1 << 26

    def __post_init__(self) -> None:
        for name in (
            "file_bytes",
            "inflated_bytes",
            "element_bytes",
            "elements",
            "depth",
            "samples",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"limit {name} must be at least 1, got {getattr(self, name)}")


DEFAULT_LIMITS = Limits()
