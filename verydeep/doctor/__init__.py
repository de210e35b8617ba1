"""The data doctor: what is wrong with these photos. The door: what other rooms use."""

from verydeep.doctor.examine import check, check_text

__all__ = ["check", "check_text"]
