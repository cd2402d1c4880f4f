"""Hostile and benign model files, made on the fly; nothing of them is stored.

``HOSTILE`` and ``BENIGN`` map a name to a builder that writes one file (or folder) and returns its
path. Hostile files carry the payload of a ``Canary``: whoever runs it is noticed.
"""

from corpus import archives, benign, gadgets, graphs, keras_files, makings, streams, tricks
from corpus.canary import Canary

__all__ = ["BENIGN", "HOSTILE", "Canary"]

HOSTILE = {
    **gadgets.FILES, **streams.FILES, **archives.FILES, **keras_files.FILES, **graphs.FILES,
    **tricks.FILES, **makings.FILES,
}  # fmt: skip
BENIGN = benign.FILES
