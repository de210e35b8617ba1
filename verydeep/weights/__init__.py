"""Other people's files and published nets. The door: what other rooms use."""

from verydeep.weights.catalogue import convolutions_at_hand
from verydeep.weights.exported import told_in
from verydeep.weights.model import check_task, load, load_describing, load_start, locate
from verydeep.weights.published import (
    beside_published,
    convert_model,
    fetch_published,
    fetched_text,
    list_published,
    list_text,
    show_model,
    show_text,
)
from verydeep.weights.read import Features, read_foreign
from verydeep.weights.torch_file import tensors_in
from verydeep.weights.verify import doubts_about, verify_model, verify_text

__all__ = [
    "Features", "beside_published", "check_task", "convert_model", "convolutions_at_hand", "doubts_about",
    "fetch_published", "fetched_text", "list_published", "list_text", "load", "load_describing", "load_start",
    "locate", "read_foreign", "show_model", "show_text", "tensors_in", "told_in", "verify_model", "verify_text",
]  # fmt: skip
