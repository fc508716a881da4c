"""Suites of questions by name: fetched ones, and the user's own folders of lm-eval tasks."""

from crlft_ray.evaluation.suites.question import HALVES, Half, Question
from crlft_ray.evaluation.suites.suite import SUITES, Protocol, Suite, load_suite, load_suites

__all__ = ["HALVES", "SUITES", "Half", "Protocol", "Question", "Suite", "load_suite", "load_suites"]
