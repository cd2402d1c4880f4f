"""Files of the service: one streaming store over a local folder or a cloud bucket."""

from modelward.storage.blobs import Blob, BlobStore
from modelward.storage.durable import sync_folder, write_durably
from modelward.storage.faults import disk_errors, disk_trouble

__all__ = ["Blob", "BlobStore", "disk_errors", "disk_trouble", "sync_folder", "write_durably"]
