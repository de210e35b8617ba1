"""The paper's experiment (section 4): plan, rehearse, run, claims, tables, page. The door: what other rooms use."""

import sys

from verydeep import CalledAsVerb
from verydeep.study.folds import cross_validate, folds_text
from verydeep.study.page import study_text as summary
from verydeep.study.plan import Asked
from verydeep.study.rehearse import plan_text
from verydeep.study.run import dry_run, study
from verydeep.study.union import join

__all__ = ["Asked", "cross_validate", "dry_run", "folds_text", "join", "plan_text", "study", "summary"]
sys.modules[__name__].__class__ = CalledAsVerb
