"""Making a bundle of an encoder as others publish it, so that it can be imported."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.bundles.bundle import CARD, CONFIGURATION, Bundle, read_bundle
from registry.bundles.card import read_card
from registry.bundles.image_processor import IMAGE_PROCESSOR, read_image_processor
from registry.bundles.preprocessing import Preprocessing, read_preprocessing
from registry.errors import BadInputError


@contextmanager
def bundle_of(
    source: Path,
    *,
    card: Path | None,
    preprocessing: Path | None,
    embedding: str | None,
    work: Path,
) -> Iterator[Bundle]:
    """Give the bundle that `source` is, or one that is made of it and goes afterwards.

    Parameters
    ----------
    source : a bundle's directory, a Hugging Face directory or an ONNX file
    card : what the encoder is for; of a bundle it stands inside
    preprocessing : a preprocessing.json; of a Hugging Face directory, by default its own
        preprocessor_config.json
    embedding : which output of an ONNX file is the embedding, where several could be
    work : where a bundle may be made

    Raises
    ------
    BadInputError
        If a declaration is needed and not named, or is named for a bundle that has its own.
    BundleError
        If a part cannot be used.
    """
    frozen = source.suffix.lower() == ".onnx"
    if not frozen and not (source / Path(CONFIGURATION).name).is_file():
        if card or preprocessing or embedding:
            raise BadInputError(
                f"{source} is a bundle, or nothing that one can be made of: card, preprocessing "
                "and embedding are for a Hugging Face directory (config.json, model.safetensors) "
                "or an ONNX file"
            )
        yield read_bundle(source)
        return
    if card is None:
        what = "an ONNX file" if frozen else "a Hugging Face directory"
        raise BadInputError(
            f"{source} is {what}, which does not say what it is for: write a {CARD}, and name it "
            "with --card (docs/models.md)"
        )
    if embedding is not None and not frozen:
        raise BadInputError(
            f"{source} is a Hugging Face directory, whose embedding is the model's own: --embedding "
            "is for an ONNX file"
        )
    declared = _preprocessing(source, preprocessing)
    work.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="import-", dir=work))
    try:
        # Made with torch and ONNX, which a command that imports a bundle does without.
        from registry.bundles.assembly import import_hugging_face, import_onnx

        about, out_dir = read_card(card), place / "bundle"
        if frozen:
            yield import_onnx(source, about, declared, out_dir, embedding=embedding)
        else:
            yield import_hugging_face(source, about, declared, out_dir)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _preprocessing(source: Path, named: Path | None) -> Preprocessing:
    if named is not None:
        return read_preprocessing(named)
    own = source / IMAGE_PROCESSOR
    if own.is_file():
        return read_image_processor(own)
    raise BadInputError(
        f"{source} does not say how its pixels are prepared: write a preprocessing.json, and name "
        "it with --preprocessing (docs/models.md)"
    )
