"""Layouts of data: folders as people bring them, and other people's. The door: what other rooms use."""

from verydeep.collections.corrections import changed_by_name, corrected, correction_rows
from verydeep.collections.folder import open_folder
from verydeep.collections.hub import open_hub
from verydeep.collections.ilsvrc import ilsvrc_folders, open_ilsvrc
from verydeep.collections.kits import Kit, kit_of, open_kit
from verydeep.collections.lists import open_list
from verydeep.collections.table import LIST_SUFFIXES
from verydeep.collections.tools import open_annotated

__all__ = [
    "LIST_SUFFIXES", "Kit", "changed_by_name", "corrected", "correction_rows", "ilsvrc_folders", "kit_of",
    "open_annotated", "open_folder", "open_hub", "open_ilsvrc", "open_kit", "open_list",
]  # fmt: skip
