"""Files of the service: one streaming store over a local folder or a cloud bucket."""

from modelward.storage.blobs import Blob, BlobStore
from modelward.storage.durable import sync_folder, write_durably
from modelward.storage.faults import disk_errors, disk_trouble
from modelward.storage.private import make_folder, private_files, private_folder

__all__ = [
    "Blob",
    "BlobStore",
    "disk_errors",
    "disk_trouble",
    "make_folder",
    "private_files",
    "private_folder",
    "sync_folder",
    "write_durably",
]
