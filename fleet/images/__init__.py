"""Images: what a manifest says, whether the bytes are those, and which versions there are."""

from fleet.images.catalogue import Broken, FolderCatalogue
from fleet.images.contents import Details, Difference
from fleet.images.manifest import read_manifest

__all__ = ["Broken", "Details", "Difference", "FolderCatalogue", "read_manifest"]
