"""The paper's experiment (section 4). The door: what other rooms use."""

from verydeep.study.rehearse import text as plan_text
from verydeep.study.run import Asked, dry_run, study, summary

__all__ = ["Asked", "dry_run", "plan_text", "study", "summary"]
