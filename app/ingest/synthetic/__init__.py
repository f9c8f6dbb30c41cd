"""A synthetic numeros.db: the real file's schema, size, habits and dirt, and nobody's data."""

from __future__ import annotations

from app.ingest.synthetic.generate import GeneratedFile, generate
from app.ingest.synthetic.writer import Progress, SyntheticOptions

__all__ = ["GeneratedFile", "Progress", "SyntheticOptions", "generate"]
